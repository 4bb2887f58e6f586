"""Encodes messages as AMQP properties and decodes them. The type of each received value is checked before its use.

Each header costs both ends some microseconds, so that the hot path sends few. `crew-timeout` is sent only with a
timeout, `crew-attempt` only after the first attempt, and `crew-outcome` only for other outcomes than `returned`.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from crew.protocol import run_headers, topology, user_headers
from crew.protocol.clock import IN_STEP, ClockOffset
from crew.protocol.deadline import broker_ttl_ms, remaining
from crew.protocol.encoding import foreign
from crew.protocol.encoding.foreign import MalformedMessage as MalformedMessage  # exported: raised by all decoders here
from crew.protocol.message import Body, Call, Control, Event, Headers, Outcome, Reply

APP_ID: Final = "crew"
MAX_PRIORITY: Final = 255

DEADLINE: Final = "crew-deadline"  # epoch milliseconds
TIMEOUT: Final = "crew-timeout"  # milliseconds
ATTEMPT: Final = "crew-attempt"  # from 2 on
TASK: Final = "crew-task"
JOB: Final = "crew-job"  # true
CLOCK: Final = "crew-clock"  # milliseconds by which the broker's clock is ahead of the clock of the other headers
START_BY: Final = "crew-start-by"  # epoch milliseconds
WORKER: Final = "crew-worker"
OUTCOME: Final = "crew-outcome"
REASON: Final = "crew-reason"  # in a parked message: why it was parked; in a control message: why it was sent
HOST: Final = "crew-host"  # in a parked message: the host that parked it
EXIT_STATUS: Final = "crew-exit-status"  # in a parked message: exit status of its last process, "SIGKILL" or "exit 1"
REFUSED: Final = "crew-refused"  # true: in a parked message without a valid signature, where messages are signed
UNREADABLE: Final = "crew-unreadable"  # never sent: set where the properties of a message cannot be decoded


_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}  # `Outcome(name)` takes five times as long


class Properties(msgspec.Struct, kw_only=True):
    """The AMQP properties that crew uses, by their AMQP names."""

    content_type: str | None = None
    content_encoding: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    priority: int | None = None
    expiration: str | None = None
    delivery_mode: int | None = None
    app_id: str | None = None
    headers: Headers | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """A call that the broker has returned through the dead letter exchange.

    Attributes:
        id: id of the call.
        reason: "expired", "rejected", "maxlen" or "delivery_limit".
        message_id: message id of the call.
    """

    id: str
    reason: str
    message_id: str | None = None


def check_priority(value: object) -> int:
    """Return `value`, an int from 0 to 255; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PRIORITY:
        raise ValueError(f"priority must be an int from 0 to {MAX_PRIORITY}, not {foreign.brief(value)}")
    return value


def queue_priority(priority: int) -> int:
    """Convert a priority of 0-255 to a priority level of the queue."""
    return priority * topology.PRIORITY_LEVELS // (MAX_PRIORITY + 1)


def priority_of_level(level: int) -> int:
    """Return the smallest priority of 0-255 with this level; levels above the queue's count as its highest."""
    return -(-min(level, topology.PRIORITY_LEVELS - 1) * (MAX_PRIORITY + 1) // topology.PRIORITY_LEVELS)


# --- call -----------------------------------------------------------------------------------------------------------


def of_call(call: Call, *, now: float, clock: ClockOffset = IN_STEP) -> Properties:
    """Return the properties of `call`.

    Args:
        now: epoch seconds, by the clock of its deadline.
        clock: offset of the broker's clock from that clock, where `call.clock` is None.
    """
    headers: Headers = {TASK: call.task, **call.headers}
    if call.client is not None:
        headers[topology.CLIENT_HEADER] = call.client
    if call.timeout is not None:
        headers[TIMEOUT] = round(call.timeout * 1000)
    if call.attempt > 1:
        headers[ATTEMPT] = call.attempt
    if call.is_job:
        headers[JOB] = True
    if call.start_by is not None:
        headers[START_BY] = round(call.start_by * 1000)
    if call.clock is not None:
        headers[CLOCK] = round(call.clock * 1000)
    elif clock is not IN_STEP:
        headers[CLOCK] = round(clock.high * 1000)
    expiration = None
    if call.deadline is not None:
        headers[DEADLINE] = round(call.deadline * 1000)
        expiration = str(broker_ttl_ms(remaining(call.deadline, now)))
    return Properties(
        content_type=call.body.content_type,
        content_encoding=call.body.content_encoding,
        correlation_id=call.id,
        reply_to=call.reply_to,
        type="call",
        message_id=call.message_id,
        timestamp=int(now),
        priority=queue_priority(call.priority),
        expiration=expiration,
        delivery_mode=2 if call.persistent else 1,
        app_id=APP_ID,
        headers=headers,
    )


def of_retry(call: Call, delay_ms: int, *, now: float) -> Properties:
    """Return the properties of `call` for the delay queue of `delay_ms`.

    They have no expiration: the broker would remove it at the end of the delay.
    """
    given = of_call(call, now=now)
    headers = {**(given.headers or {}), topology.DELAY_HEADER: delay_ms}
    return msgspec.structs.replace(given, headers=headers, expiration=None)


def to_call(task: str, properties: Properties, data: bytes, *, make_id: Callable[[], str]) -> Call:
    """Decode a call from a message in the queue of `task`.

    A message of another sender may have no deadline and want no reply. It is run, too.

    Args:
        make_id: returns an id for a message without one.

    Raises:
        MalformedMessage: a property or header that crew uses has the wrong type.
    """
    headers = _readable(properties)
    deadline = foreign.seconds(headers, DEADLINE)
    return Call(
        id=foreign.text("correlation_id", properties.correlation_id)
        or foreign.text("message_id", properties.message_id)
        or make_id(),
        task=task,
        body=_body(properties, data),
        priority=priority_of_level(properties.priority or 0),
        deadline=deadline,
        timeout=foreign.seconds(headers, TIMEOUT),
        persistent=properties.delivery_mode == 2,
        client=foreign.header(headers, topology.CLIENT_HEADER, str, None),
        reply_to=foreign.text("reply_to", properties.reply_to) or None,
        attempt=foreign.attempt_number(headers, ATTEMPT),
        message_id=foreign.text("message_id", properties.message_id),
        is_job=foreign.header(headers, JOB, bool, False),
        start_by=foreign.seconds(headers, START_BY),
        clock=foreign.seconds(headers, CLOCK),
        headers=user_headers.own(headers),
    )


def of_parked(given: Headers, *, reason: str, host: str, status: str) -> Headers:
    """Return crew's headers of a message with the headers `given` when it is parked.

    Args:
        host: the host that parks it.
        status: exit status of the last process that ran it, or "".
    """
    kept = {
        name: value
        for name in (topology.CLIENT_HEADER, TIMEOUT, DEADLINE)
        if foreign.is_plain(value := given.get(name))
    }
    kept |= {REASON: reason, HOST: host}
    return {**kept, EXIT_STATUS: status} if status else kept


def of_bare_parked(parked: Properties) -> Properties:
    """Return only those properties of `parked` that identify it and say why it was parked."""
    headers = parked.headers or {}
    return Properties(
        content_type=parked.content_type,
        content_encoding=parked.content_encoding,
        correlation_id=parked.correlation_id,
        timestamp=parked.timestamp,
        delivery_mode=2,
        headers={name: headers[name] for name in (TASK, REASON, HOST, EXIT_STATUS) if name in headers},
    )


# --- reply ----------------------------------------------------------------------------------------------------------


def of_reply(reply: Reply) -> Properties:
    """Return the properties of `reply`."""
    headers = {**reply.headers, **run_headers.of_run(reply.run)}
    if reply.worker is not None:
        headers[WORKER] = reply.worker
    if reply.outcome is not Outcome.RETURNED:
        headers[OUTCOME] = reply.outcome.value
    return Properties(
        content_type=reply.body.content_type,
        content_encoding=reply.body.content_encoding,
        correlation_id=reply.id,
        type="reply",
        message_id=reply.message_id,
        delivery_mode=2 if reply.persistent else 1,
        app_id=APP_ID,
        headers=headers or None,
    )


def to_reply(properties: Properties, data: bytes) -> Reply | DeadLetter:
    """Decode a message from a reply queue: a reply, or the call itself as a dead letter.

    Raises:
        MalformedMessage: it has no correlation id, or a header has the wrong type.
    """
    headers = _readable(properties)
    id = foreign.text("correlation_id", properties.correlation_id)
    if not id:
        raise MalformedMessage("a reply has no correlation_id, so that its call is unknown")
    if "x-first-death-reason" in headers:
        return DeadLetter(id, foreign.reason_of_death(headers), foreign.text("message_id", properties.message_id))
    name = foreign.header(headers, OUTCOME, str, None)
    outcome = Outcome.RETURNED if name is None else _OUTCOMES.get(name)
    if outcome is None:
        raise MalformedMessage(f"a reply has an unknown outcome in header {OUTCOME}: {foreign.brief(name)}")
    return Reply(
        id=id,
        outcome=outcome,
        body=_body(properties, data),
        worker=foreign.worker_id(foreign.header(headers, WORKER, str, None)),
        message_id=foreign.text("message_id", properties.message_id),
        run=run_headers.to_run(headers),
        headers=user_headers.own(headers),
    )


# --- event ----------------------------------------------------------------------------------------------------------


def of_event(event: Event, *, now: float) -> Properties:
    """Return the properties of `event`, published at `now` (epoch seconds)."""
    return Properties(
        content_type=event.body.content_type,
        content_encoding=event.body.content_encoding,
        type="event",
        timestamp=int(now),
        delivery_mode=2 if event.persistent else 1,
        app_id=APP_ID,
        headers=event.headers or None,
    )


def to_event(topic: str, properties: Properties, data: bytes) -> Event:
    """Decode an event from a message in a subscription queue, with the routing key `topic`.

    Raises:
        MalformedMessage: a property has the wrong type.
    """
    return Event(topic=topic, body=_body(properties, data), headers=user_headers.own(_readable(properties)))


# --- control --------------------------------------------------------------------------------------------------------


def of_control(control: Control) -> Properties:
    """Return the properties of `control`; its body is empty."""
    headers: Headers = {REASON: control.reason}
    if control.deadline is not None:
        headers[DEADLINE] = round(control.deadline * 1000)
    if control.is_job:
        headers[JOB] = True
    return Properties(
        correlation_id=control.id,
        type="control",
        message_id=control.message_id,
        delivery_mode=1,
        app_id=APP_ID,
        headers=headers,
    )


def to_control(properties: Properties) -> Control:
    """Decode a control message to a worker.

    Raises:
        MalformedMessage: it has no correlation id, or a header has the wrong type.
    """
    headers = _readable(properties)
    id = foreign.text("correlation_id", properties.correlation_id)
    if not id:
        raise MalformedMessage("a control message has no correlation_id, so that its call is unknown")
    reason = foreign.header(headers, REASON, str, "canceled")
    return Control(
        id=id,
        reason=reason,
        deadline=foreign.seconds(headers, DEADLINE),
        message_id=foreign.text("message_id", properties.message_id) or None,
        is_job=foreign.header(headers, JOB, bool, False),
    )


# --- pieces ---------------------------------------------------------------------------------------------------------


def _readable(properties: Properties) -> Headers:
    headers = properties.headers or {}
    if UNREADABLE in headers:
        raise MalformedMessage(f"its properties cannot be decoded: {foreign.brief(headers[UNREADABLE])}")
    return headers


def _body(properties: Properties, data: bytes) -> Body:
    return Body(
        data,
        foreign.text("content_type", properties.content_type),
        foreign.text("content_encoding", properties.content_encoding),
    )

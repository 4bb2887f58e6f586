"""The calls in flight: accept -> publish -> the broker confirms -> a worker replies -> settle.

A call waits for the broker inside its own budget, and the client's own timer ends it on time whatever else happens.
Where it ends without a word from a worker, the workers are told, so that nothing runs for nobody.
"""

import asyncio
import copy
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from crew import errors
from crew.amqp import Confirm, ConfirmStatus, Delivery, Link
from crew.client import off_loop
from crew.client.calling.call import PendingCall
from crew.client.calling.leader_retry import AGAIN_AFTER, Elections
from crew.client.calling.pending import MAX_BYTES, PendingCalls
from crew.client.calling.reply import answer_to
from crew.protocol import deadline, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Control, Outcome, Reply
from crew.protocol.properties import DeadLetter

logger = logging.getLogger(__name__)

BLOCKED: Final = "the broker has blocked publishing: it is short of memory or disk"
CANCELED: Final = "canceled"
TIMEOUT: Final = "timeout"
MAX_UNTOLD: Final = 10_000  # cancels that are kept while the broker is away

REPLY_MARGIN: Final = 0.2  # seconds after the deadline for the worker's own word on what became of the call


class Calls:
    """Sends calls over one link, and settles them with what `on_reply` is told.

    Args:
        limit: calls that may be in flight.
        publishing: the link to publish on.
        consuming: the link over which replies come; nothing is published while they could not arrive.
        decode: what this client accepts.
        ack: how a reply is acknowledged; with all before it, where nobody else uses the channel.
        max_bytes: bodies of the calls that the broker has not taken yet.
    """

    def __init__(
        self,
        limit: int,
        *,
        publishing: Link,
        consuming: Link,
        decode: codec.Decode = codec.decode,
        ack: Callable[[Delivery], object] = Delivery.ack_through,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._decode = decode
        self._ack = ack
        self._pending = PendingCalls(limit, self._on_due, max_bytes=max_bytes)
        self._publishing = publishing
        self._consuming = consuming
        self._elections = Elections()
        self._untold: dict[Control, str] = {}  # what waits for the broker -> routing key

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def obstacle(self) -> str | None:
        """Why a call could not be on its way at once, in one sentence; None where it could."""
        if not (self._publishing.is_ready and self._consuming.is_ready):
            fault = self._consuming.fault or self._publishing.fault
            return f"the broker is away: {fault}" if fault else "the broker has not been reached yet"
        return BLOCKED if self._publishing.is_blocked else None

    def send(self, call: PendingCall[Any], expiration: float, *, fail_fast: bool = False) -> None:
        """Send `call`, and end it after `expiration` seconds at the latest.

        Args:
            fail_fast: only where the broker is here.

        Raises:
            DuplicateCallId: a call with its id is in flight.
            Overloaded: too many are, or too many bytes wait for the broker, or it has blocked publishing.
            ConnectionError: the broker is away, with `fail_fast`.
        """
        if self._publishing.is_blocked:
            raise errors.Overloaded(BLOCKED, task=call.task)
        if fail_fast and (why := self.obstacle):
            raise errors.ConnectionError(f"task {call.task!r} is not called: {why}")
        self._pending.add(call, expiration + REPLY_MARGIN)
        self._publish(call)

    def send_waiting(self) -> None:
        """Send what waits for the broker, over a new connection."""
        self._elections.on_reconnect()
        for call in self._pending:
            if not call.is_published:
                self._publish(call)
        untold, self._untold = self._untold, {}
        for control, key in untold.items():
            self._tell(key, control)

    def cancel(self, call: PendingCall[Any]) -> None:
        """Nobody waits for `call` any longer: it is not started, or stopped."""
        self._pending.forget(call)
        self._tell_workers(call, CANCELED)

    def settle_all(self, error: Exception) -> None:
        """End every call with an error like this: one that all raise would grow by the stack of each who awaits it."""
        for call in self._pending:
            self._settle(call, copy.copy(error))

    def close(self) -> None:
        """End every call, and the timer."""
        self.log_unawaited("the client was closed")
        for call in self._pending:
            self._tell_workers(call, CANCELED)
        self.settle_all(errors.ConnectionError("the client was closed", missing="client"))
        self._pending.close()

    def leave(self, why: str) -> None:
        """End every call without waking anything: nothing here runs on their event loop any longer."""
        for call in self._pending:
            call.leave(errors.ConnectionError(f"call {call.id} of task {call.task!r} {why}"))

    def log_unawaited(self, why: str) -> None:
        """Log in one line how many calls end because of `why` while nothing awaits them."""
        unawaited = [call for call in self._pending if not call.is_awaited]
        if not unawaited:
            return
        tasks = Counter(call.task for call in unawaited)
        told = ", ".join(f"{task} ({count})" for task, count in sorted(tasks.items()))
        many = "1 call" if len(unawaited) == 1 else f"{len(unawaited)} calls"
        logger.warning("%s: cancelled %s in flight that nothing awaits: %s", why, many, told)
        for call in unawaited:
            call.is_awaited = True  # logged

    def on_reply(self, delivery: Delivery) -> None:
        """A message came over the reply queue: an answer, or a call that the broker gave back."""
        try:
            reply = properties.to_reply(delivery.properties, delivery.body)
            call = self._pending.get(reply.id)
            if call is None or reply.message_id not in (None, call.message.message_id):  # of one that had its id before
                self._on_late_reply(reply)
            elif isinstance(reply, Reply) and not reply.outcome.is_end:
                call.has_started = True
            elif isinstance(reply, Reply) and codec.is_large(reply.body) and not call.keeps_body:
                self._settle_later(call, reply)
            else:
                headers = reply.headers if isinstance(reply, Reply) else None
                self._pending.settle(call.id, answer_to(call, reply, self._decode), headers)
        except properties.MalformedMessage as error:
            logger.warning("a message in the reply queue is dropped: %s", error)
        finally:
            self._ack(delivery)

    def on_refused(self, delivery: Delivery) -> None:
        """A reply is not signed: it settles no call, and a call that has no other ends by its deadline, and says so."""
        id = delivery.properties.correlation_id
        call = self._pending.get(id) if isinstance(id, str) else None
        if call is not None:
            call.refused_reply = delivery.refusal
        delivery.ack()

    def _settle_later(self, call: PendingCall[Any], reply: Reply) -> None:
        """Settle `call` once a thread has decoded its value; until then its deadline is what it was.

        The reply is acknowledged before: after a loss of the connection it would come a second time.
        """

        def settle(decoding: "asyncio.Future[Any]") -> None:
            if self._pending.get(call.id) is call and not decoding.cancelled():
                error = decoding.exception()
                self._pending.settle(call.id, decoding.result() if error is None else error, reply.headers)

        off_loop.start(answer_to, call, reply, self._decode).add_done_callback(settle)

    def _on_late_reply(self, reply: Reply | DeadLetter) -> None:
        """Cancel the call where its task has only just started: its worker may have missed the first cancel.

        Its deadline is not known here any longer, so the cancel names its message: its id may be that of another call.
        """
        if isinstance(reply, Reply) and reply.outcome is Outcome.STARTED and reply.worker is not None:
            control = Control(id=reply.id, reason=CANCELED, message_id=reply.message_id or reply.id)
            self._tell(topology.control_key_of_worker(reply.worker), control)
        else:
            logger.debug("a late or second reply to call %s is dropped", reply.id)

    def _publish(self, call: PendingCall[Any]) -> None:
        """Publish it now; where the broker is away, `send_waiting` does when it is back."""
        if not (self._publishing.is_ready and self._consuming.is_ready):
            return
        try:
            confirm = self._publishing.publish(
                topology.DEFAULT_EXCHANGE,
                topology.task_queue_name(call.task),
                properties.of_call(call.message, now=time.time(), clock=self._publishing.clock_offset),
                call.message.body.data,
                mandatory=True,
            )
        except errors.ConnectionError:
            return  # it broke just now: the next connection sends it
        call.is_published = call.was_published = True
        confirm.then(functools.partial(self._on_confirm, call, confirm))

    def _on_confirm(self, call: PendingCall[Any], confirm: Confirm, status: ConfirmStatus) -> None:
        match status:
            case ConfirmStatus.CONFIRMED:
                self._elections.on_taken(call.task)
                self._pending.confirm(call)
            case ConfirmStatus.TOO_LARGE:
                self._settle(call, _too_large(call))
            case ConfirmStatus.INVALID:
                why = f"the broker does not accept call {call.id} of task {call.task!r}: {confirm.reason}"
                self._settle(call, errors.MessageRefused(why, task=call.task, id=call.id))
            case ConfirmStatus.RETURNED:
                error = errors.UnknownTask(f"no worker has ever served task {call.task!r}", task=call.task, id=call.id)
                self._settle(call, error)
            case ConfirmStatus.REFUSED if self._publishing.is_replicated and self._elections.may_explain(call.task):
                call.is_published = False
                self._publishing.change_channel()
                asyncio.get_running_loop().call_later(AGAIN_AFTER, self._publish_again, call)
            case ConfirmStatus.REFUSED:
                self._settle(
                    call, errors.Overloaded(f"the queue of task {call.task!r} is full", task=call.task, id=call.id)
                )
            case ConfirmStatus.LOST if call.message.persistent:
                call.is_published = False
                if self._publishing.is_ready:
                    self._elections.on_timed_out(call.task)
            case ConfirmStatus.LOST:
                why = "the broker did not confirm it" if self._publishing.is_ready else "the connection broke"
                self._settle(call, errors.ConnectionError(f"{why} while call {call.id} was on its way"))

    def _publish_again(self, call: PendingCall[Any]) -> None:
        if self._pending.get(call.id) is call and not call.is_published:
            self._publish(call)

    def _on_due(self, call: PendingCall[Any]) -> None:
        self._tell_workers(call, TIMEOUT)
        refused = f" (a reply was refused: {call.refused_reply})" if call.refused_reply else ""
        if call.has_started:
            why = f"task {call.task!r} was started and did not end in time{refused}"
            self._settle(call, errors.TimeoutError(why, task=call.task, id=call.id))
            return
        why = "no worker took" if call.is_published else "the broker could not be reached for"
        why = f"{why} task {call.task!r} in time{refused}"
        self._settle(call, errors.ExpirationError(why, task=call.task, id=call.id))

    def _settle(self, call: PendingCall[Any], error: Exception) -> None:
        if self._pending.get(call.id) is call:
            self._pending.settle(call.id, error)

    # --- what workers are told --------------------------------------------------------------------------------------

    def _tell_workers(self, call: PendingCall[Any], reason: str) -> None:
        """Tell all who serve its task, as the broker may hand it to any of them; again when the broker is back."""
        if call.was_published:
            control = Control(id=call.id, reason=reason, deadline=call.message.deadline)
            self._tell(topology.control_key_of_task(call.task), control)

    def _tell(self, key: str, control: Control) -> None:
        """Whether it arrives is not asked: a worker that has missed it says so when it starts the call."""
        try:
            self._publishing.publish(topology.CONTROL, key, properties.of_control(control), b"", mandatory=False)
        except errors.ConnectionError:
            if not deadline.is_past(control.deadline, time.time()) and len(self._untold) < MAX_UNTOLD:
                self._untold[control] = key


def _too_large(call: PendingCall[Any]) -> errors.TooLarge:
    return errors.TooLarge(
        f"call {call.id} of task {call.task!r} has {len(call.message.body.data)} bytes, more than the broker takes in "
        "one message: its max_message_size is smaller than CREW_MAX_MESSAGE here"
    )

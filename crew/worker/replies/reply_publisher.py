"""Replies on their way out: published, confirmed, and only then is the delivery acknowledged.

While the broker is away they wait here, and leave when it is back; the client takes the first reply to a call and
drops a second.
"""

import asyncio
import functools
import logging
import math
import socket
import time
from collections.abc import Callable

import msgspec

from crew.amqp import Confirm, ConfirmStatus, Delivery, Link
from crew.errors import ConnectionError, MessageRefused, TooLarge
from crew.protocol import failure, properties, topology, user_headers
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Outcome, Reply, Run
from crew.worker.execution.result import NO_BODY, Result, failed_with
from crew.worker.replies.backlog import Backlog, OutgoingMessage

logger = logging.getLogger(__name__)

REFUSED_FOR = 30.0  # seconds; a quorum queue refuses until it has a leader, and one that somebody has bounded for ever
AGAIN_AFTER = 0.1  # seconds: an election takes about 0.2
RETURNED_AGAIN_AFTER = (0.3, 0.7, 1.5)  # seconds: a client whose queue was deleted has declared it anew by then
MAX_STORES = 100  # whose queues are remembered
MAX_REASON = 1_000  # characters: a header shares its frame with the other properties

OnSent = Callable[[], object]


class ReplyPublisher:
    """Sends what executions came to.

    Args:
        worker: id of this worker, for the reply's headers.
        kept: what waits while the broker is away.
        knows_store: whether a queue is that of a job store whose gateways are known to this worker: no reply to it is
            given up. The `reply_to` of a message alone does not make a queue one. Default: none is known.
    """

    def __init__(
        self,
        link: Link,
        worker: str,
        backlog: Backlog | None = None,
        *,
        knows_store: Callable[[str], bool] = lambda queue: False,
    ) -> None:
        self._link = link
        self._worker = worker
        self._knows_store = knows_store
        self._stores: dict[str, None] = {}  # queues that have taken the end of a job, the last `MAX_STORES` of them
        self._backlog = Backlog() if backlog is None else backlog
        self._unconfirmed = 0
        self._returned: set[asyncio.Task[None]] = set()
        self._count = 0
        self._is_sending_soon = False

    def __len__(self) -> int:
        """Those for which a process that ends should wait: not for clients that have gone."""
        return len(self._backlog) + self._unconfirmed

    def answer(
        self,
        call: Call,
        ended: Result,
        on_sent: OnSent,
        on_dropped: OnSent = lambda: None,
        *,
        run: Run | None = None,
    ) -> None:
        """Send the reply to `call`.

        Args:
            on_sent: called when the broker has it, or nobody wants it.
            on_dropped: called where it waits for the broker and there is no room for it any longer.
            run: where the call is a job, its execution.
        """
        if call.reply_to is None or ended.outcome is None:
            on_sent()
            return
        reply = Reply(
            id=call.id,
            outcome=ended.outcome,
            body=ended.body,
            persistent=call.persistent,
            worker=None if ended.outcome is Outcome.RETURNED and run is None else self._worker,
            message_id=call.message_id,
            run=run,
            headers=ended.headers,
        )
        of_reply, body = properties.of_reply(reply), ended.body.data
        is_value = ended.outcome is Outcome.RETURNED or bool(ended.headers)
        instead = functools.partial(self._answer_refused, call, on_sent, run) if is_value else None
        is_report = run is not None
        self._send(OutgoingMessage(call.reply_to, of_reply, body, on_sent, instead, on_dropped, is_report=is_report))

    def _answer_refused(self, call: Call, on_sent: OnSent, run: Run | None, refused: Confirm) -> None:
        """The broker does not accept the value, or the headers that came with it: tell the caller in a few bytes."""
        error: type[Exception] = MessageRefused
        message = f"the broker does not accept the reply of task {call.task!r}: {refused.reason}"
        if refused.status is ConfirmStatus.TOO_LARGE:
            error = TooLarge
            message = (
                f"the value of task {call.task!r} has {len(refused.body)} bytes, more than the broker takes in one "
                "message: its max_message_size is smaller than CREW_MAX_MESSAGE of the worker"
            )
        told = Failure(type_name=failure.type_name(error()), message=message)
        self.answer(call, failed_with(Outcome.RAISED, told), on_sent, run=run)

    def announce(self, call: Call, run: Run | None = None) -> bool:
        """Tell the client that its call has started; False where the broker is away: try again while it runs."""
        if call.reply_to is None:
            return True
        reply = self._word(call, Outcome.STARTED, NO_BODY, run)
        try:
            self._link.publish(
                topology.DEFAULT_EXCHANGE, call.reply_to, properties.of_reply(reply), b"", mandatory=False
            )
        except ConnectionError:
            return False
        return True

    def send_progress(self, call: Call, body: Body, run: Run | None) -> None:
        """Send what the task of `call` says of it; where the broker is away, when it is back."""
        if call.reply_to is not None:
            of_reply = properties.of_reply(self._word(call, Outcome.PROGRESS, body, run))
            self._send(OutgoingMessage(call.reply_to, of_reply, body.data, lambda: None, None))

    def _word(self, call: Call, outcome: Outcome, body: Body, run: Run | None) -> Reply:
        """A reply that is no end: the next one may make it good where it is lost with the broker."""
        return Reply(
            id=call.id,
            outcome=outcome,
            body=body,
            persistent=False,
            worker=self._worker,
            message_id=call.message_id,
            run=run,
        )

    @property
    def is_connected(self) -> bool:
        """Whether what is sent now need not wait for the broker."""
        return self._link.is_ready

    def park(
        self, delivery: Delivery, reason: str, on_sent: OnSent, on_dropped: OnSent, *, exit_status: str = ""
    ) -> None:
        """Put the message of `delivery` where it can be looked at, with the reason.

        It may be the only one of its kind, so that it is tried until the broker has it.

        Args:
            on_sent, on_dropped: as `answer` has them.
            exit_status: how the last process ended that ran it, as `exit_status_of` returns it; "" where none has.
        """
        if delivery.refusal is None:  # the link has logged these, a line for many
            logger.error("a message of %s is given up and parked in %s: %s", delivery.queue, topology.PARKED, reason)
        given = delivery.properties.headers or {}
        headers = {
            **user_headers.sendable(given),
            **properties.of_parked(given, reason=reason[:MAX_REASON], host=socket.gethostname(), status=exit_status),
            properties.TASK: topology.task_of_queue(delivery.queue),
        }
        if delivery.refusal is not None:
            headers[properties.REFUSED] = True
        parked = msgspec.structs.replace(
            delivery.properties, headers=headers, expiration=None, delivery_mode=2, timestamp=int(time.time())
        )
        self._park(parked, delivery.body, on_sent, on_dropped)

    def _park(self, parked: properties.Properties, body: bytes, on_sent: OnSent, on_dropped: OnSent) -> None:
        """Park it; without its body, or with few properties, where the broker does not accept all of it any longer."""
        bare = properties.of_bare_parked(parked)

        def instead(refused: Confirm) -> None:
            if body and (refused.status is ConfirmStatus.TOO_LARGE or parked == bare):
                why = refused.reason or "the broker takes no message of this size"
                logger.error("message parked without its body bytes=%d: %s", len(body), why)
                self._park(parked, b"", on_sent, on_dropped)
            else:
                logger.error("message parked without its properties: %s", refused.reason)
                self._park(bare, body, on_sent, on_dropped)

        can_be_less = bool(body) or parked != bare
        self._send(
            OutgoingMessage(topology.PARKED, parked, body, on_sent, instead if can_be_less else None, on_dropped)
        )

    def send_waiting(self) -> None:
        """Send what waits for the broker."""
        for number, message in self._backlog.take().items():
            self._publish(number, message)

    def stop(self) -> None:
        """Send nothing again that has come back; idempotent."""
        for task in self._returned:
            task.cancel()

    def _send(self, message: OutgoingMessage) -> None:
        self._count += 1
        self._publish(self._count, message)

    def _publish(self, number: int, message: OutgoingMessage) -> None:
        try:
            confirm = self._link.publish(
                topology.DEFAULT_EXCHANGE, message.queue, message.properties, message.body, mandatory=True
            )
        except ConnectionError:
            self._backlog.keep(number, message)
            return
        self._unconfirmed += 1
        confirm.then(functools.partial(self._on_confirm, number, message, confirm))

    def _on_confirm(self, number: int, message: OutgoingMessage, confirm: Confirm, status: ConfirmStatus) -> None:
        self._unconfirmed -= 1
        match status:
            case ConfirmStatus.LOST:
                self._backlog.keep(number, message)
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID if message.instead is not None:
                message.instead(confirm)
            case ConfirmStatus.REFUSED if time.monotonic() < (until := message.until or self._patient_until(message)):
                self._backlog.keep(number, msgspec.structs.replace(message, until=until))
                self._send_again_soon()
            case ConfirmStatus.CONFIRMED:
                if message.is_report and message.queue not in self._stores:
                    self._learn(message.queue)
                message.on_sent()
            case ConfirmStatus.RETURNED if message.returns < len(RETURNED_AGAIN_AFTER) or self._must_arrive(message):
                self._send_returned_soon(number, message)
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID:
                told = "message discarded: the broker does not accept it queue=%r id=%r bytes=%d: %s"
                reason = confirm.reason or status.value
                logger.error(told, message.queue, confirm.key, len(message.body), reason)
                message.on_sent()
            case _:
                logger.info("a reply is dropped, as its client is gone: %s was %s", message.queue, status.value)
                message.on_sent()

    def _must_arrive(self, message: OutgoingMessage) -> bool:
        """Whether it is not given up for a queue that is not there or refuses it: that of a client may be gone."""
        queue = message.queue
        return queue == topology.PARKED or queue in self._stores or self._knows_store(queue)

    def _learn(self, queue: str) -> None:
        """`queue` was there for the end of a job: it will be there again, where it is that of a store."""
        if topology.is_jobs_queue(queue):
            self._stores[queue] = None
        while len(self._stores) > MAX_STORES:
            del self._stores[next(iter(self._stores))]

    def _patient_until(self, message: OutgoingMessage) -> float:
        """When it is given up where its queue refuses it (time.monotonic())."""
        return math.inf if self._must_arrive(message) else time.monotonic() + REFUSED_FOR

    def _send_again_soon(self) -> None:
        """Without waiting for the broker's return, as it is there."""
        if not self._is_sending_soon:
            self._is_sending_soon = True
            self._link.change_channel()
            asyncio.get_running_loop().call_later(AGAIN_AFTER, self._send_again)

    def _send_again(self) -> None:
        self._is_sending_soon = False
        self.send_waiting()

    def _send_returned_soon(self, number: int, message: OutgoingMessage) -> None:
        """Its queue is not there. Its consumer declares it anew where it was deleted, and may be gone with it.

        The delivery of a reply is done with all the same, unless it must arrive: the replies to a gateway that died
        are not to hold up those to others.
        """
        wait = RETURNED_AGAIN_AFTER[min(message.returns, len(RETURNED_AGAIN_AFTER) - 1)]
        message = msgspec.structs.replace(message, returns=message.returns + 1)
        if not self._must_arrive(message):
            message.on_sent()
            message = msgspec.structs.replace(message, on_sent=lambda: None, on_dropped=lambda: None)
        task = asyncio.get_running_loop().create_task(self._send_returned(number, message, wait))
        self._returned.add(task)
        task.add_done_callback(self._returned.discard)

    async def _send_returned(self, number: int, message: OutgoingMessage, wait: float) -> None:
        try:
            is_ours = message.queue == topology.PARKED  # never one that a message names: anybody may send that
            if not is_ours or message.returns > 1:
                await asyncio.sleep(wait)
            if is_ours:
                await self._link.declare_once(topology.parked_queue())
        except ConnectionError as error:
            logger.debug("%s waits for the next connection: %s", message.queue, error)
        self._publish(number, message)

"""Reply publisher: publishes replies until the broker confirms them; only then is the delivery acknowledged.

While the broker is away, replies wait in the backlog. A client takes the first reply to a call and ignores a second.
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

REFUSED_TIMEOUT = (
    30.0  # seconds: a quorum queue refuses until it has a leader; a full bounded queue may refuse for ever
)
REFUSED_RETRY_DELAY = 0.1  # seconds: electing a leader takes about 0.2
RETURNED_RETRY_DELAYS = (0.3, 0.7, 1.5)  # seconds: a client declares its deleted queue again within that time
MAX_STORES = 100  # queues of job stores that are remembered
MAX_REASON = 1_000  # characters: a header shares its frame with the other properties

OnSent = Callable[[], object]


class ReplyPublisher:
    """Publishes replies, progress reports and parked messages. All methods run on the I/O thread.

    Args:
        worker: id of this worker, for the reply's headers.
        backlog: holds replies while the broker is away.
        knows_store: whether a queue belongs to a job store whose gateway has contacted this worker; replies to it are
            retried without a limit. The `reply_to` of a message alone does not prove that. Default: no store is known.
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
        self._stores: dict[str, None] = {}  # queues that have accepted the end of a job, the last `MAX_STORES` of them
        self._backlog = Backlog() if backlog is None else backlog
        self._unconfirmed = 0
        self._returned: set[asyncio.Task[None]] = set()
        self._count = 0
        self._is_sending_soon = False

    def __len__(self) -> int:
        """Messages without a confirm, for which a shutdown waits; those whose queue is gone are not counted."""
        return len(self._backlog) + self._unconfirmed

    def reply(
        self,
        call: Call,
        result: Result,
        on_sent: OnSent,
        on_dropped: OnSent = lambda: None,
        *,
        run: Run | None = None,
    ) -> None:
        """Send the reply to `call`.

        Args:
            on_sent: called when the broker has confirmed it, or the call wants no reply.
            on_dropped: called when a full backlog discards it.
            run: for a job, its execution.
        """
        if call.reply_to is None or result.outcome is None:
            on_sent()
            return
        reply = Reply(
            id=call.id,
            outcome=result.outcome,
            body=result.body,
            persistent=call.persistent,
            worker=None if result.outcome is Outcome.RETURNED and run is None else self._worker,
            message_id=call.message_id,
            run=run,
            headers=result.headers,
        )
        of_reply, body = properties.of_reply(reply), result.body.data
        is_value = result.outcome is Outcome.RETURNED or bool(result.headers)
        instead = functools.partial(self._reply_refused, call, on_sent, run) if is_value else None
        is_report = run is not None
        self._send(OutgoingMessage(call.reply_to, of_reply, body, on_sent, instead, on_dropped, is_report=is_report))

    def _reply_refused(self, call: Call, on_sent: OnSent, run: Run | None, refused: Confirm) -> None:
        """Reply with a short error, as the broker does not accept the value or its headers."""
        error: type[Exception] = MessageRefused
        message = f"task {call.task!r}: the broker does not accept its reply: {refused.reason}"
        if refused.status is ConfirmStatus.TOO_LARGE:
            error = TooLarge
            message = (
                f"task {call.task!r}: the broker does not accept its return value of {len(refused.body)} bytes; return "
                "less, or raise the broker's max_message_size to the worker's CREW_MAX_MESSAGE"
            )
        reported = Failure(type_name=failure.type_name(error()), message=message)
        self.reply(call, failed_with(Outcome.RAISED, reported), on_sent, run=run)

    def announce(self, call: Call, run: Run | None = None) -> bool:
        """Report to the client that its call has started; returns False while the broker is away."""
        if call.reply_to is None:
            return True
        reply = self._interim_reply(call, Outcome.STARTED, NO_BODY, run)
        try:
            self._link.publish(
                topology.DEFAULT_EXCHANGE, call.reply_to, properties.of_reply(reply), b"", mandatory=False
            )
        except ConnectionError:
            return False
        return True

    def send_progress(self, call: Call, body: Body, run: Run | None) -> None:
        """Send a progress report of the task of `call`; while the broker is away it waits in the backlog."""
        if call.reply_to is not None:
            of_reply = properties.of_reply(self._interim_reply(call, Outcome.PROGRESS, body, run))
            self._send(OutgoingMessage(call.reply_to, of_reply, body.data, lambda: None, None))

    def _interim_reply(self, call: Call, outcome: Outcome, body: Body, run: Run | None) -> Reply:
        """Make a reply that does not end the call. It is not persistent, as a later one replaces it if it is lost."""
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
        """Whether a message is published at once; otherwise it waits in the backlog."""
        return self._link.is_ready

    def park(
        self, delivery: Delivery, reason: str, on_sent: OnSent, on_dropped: OnSent, *, exit_status: str = ""
    ) -> None:
        """Publish the message of `delivery` to the queue `crew.parked`, with the reason; retried without a limit.

        Args:
            on_sent, on_dropped: as in `reply`.
            exit_status: how the last process that ran it ended, as `exit_status_of` returns it; "" if it never ran.
        """
        if delivery.refusal is None:  # else the link has logged it, one line for many
            logger.error(
                "message parked in %s: %s queue=%s call_id=%s",
                topology.PARKED,
                reason,
                delivery.queue,
                delivery.properties.correlation_id,
            )
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
        """Park a message; if the broker does not accept it, park it without its body or with fewer properties."""
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
        """Send the messages of the backlog."""
        for number, message in self._backlog.take().items():
            self._publish(number, message)

    def stop(self) -> None:
        """Stop retrying returned messages; idempotent."""
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
            self._backlog.add(number, message)
            return
        self._unconfirmed += 1
        confirm.then(functools.partial(self._on_confirm, number, message, confirm))

    def _on_confirm(self, number: int, message: OutgoingMessage, confirm: Confirm, status: ConfirmStatus) -> None:
        self._unconfirmed -= 1
        match status:
            case ConfirmStatus.LOST:
                self._backlog.add(number, message)
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID if message.instead is not None:
                message.instead(confirm)
            case ConfirmStatus.REFUSED if time.monotonic() < (until := message.until or self._retry_until(message)):
                self._backlog.add(number, msgspec.structs.replace(message, until=until))
                self._send_again_soon()
            case ConfirmStatus.CONFIRMED:
                if message.is_report and message.queue not in self._stores:
                    self._remember_store(message.queue)
                message.on_sent()
            case ConfirmStatus.RETURNED if message.returns < len(RETURNED_RETRY_DELAYS) or self._must_arrive(message):
                self._send_returned_soon(number, message)
            case ConfirmStatus.TOO_LARGE | ConfirmStatus.INVALID:
                text = "message discarded: the broker does not accept it queue=%r id=%r bytes=%d: %s"
                reason = confirm.reason or status.value
                logger.error(text, message.queue, confirm.key, len(message.body), reason)
                message.on_sent()
            case _:
                text = "reply discarded: its client is gone status=%s queue=%s call_id=%s"
                logger.info(text, status.value, message.queue, message.properties.correlation_id)
                message.on_sent()

    def _must_arrive(self, message: OutgoingMessage) -> bool:
        """Whether to retry without a limit if its queue is missing or refuses it; the queue of a client may be gone."""
        queue = message.queue
        return queue == topology.PARKED or queue in self._stores or self._knows_store(queue)

    def _remember_store(self, queue: str) -> None:
        """Remember `queue`, if its name is that of a job store: it has accepted the end of a job, so it exists."""
        if topology.is_jobs_queue(queue):
            self._stores[queue] = None
        while len(self._stores) > MAX_STORES:
            del self._stores[next(iter(self._stores))]

    def _retry_until(self, message: OutgoingMessage) -> float:
        """When a message that its queue refuses is discarded (time.monotonic())."""
        return math.inf if self._must_arrive(message) else time.monotonic() + REFUSED_TIMEOUT

    def _send_again_soon(self) -> None:
        """Schedule `send_waiting`: the broker is connected, so no reconnect will do it."""
        if not self._is_sending_soon:
            self._is_sending_soon = True
            self._link.change_channel()
            asyncio.get_running_loop().call_later(REFUSED_RETRY_DELAY, self._send_again)

    def _send_again(self) -> None:
        self._is_sending_soon = False
        self.send_waiting()

    def _send_returned_soon(self, number: int, message: OutgoingMessage) -> None:
        """Schedule a retry: its queue does not exist, but its client may declare it again, unless it has ended.

        The delivery is acknowledged at once, unless the message must arrive: replies to a gateway that died must not
        hold up the replies to others.
        """
        wait = RETURNED_RETRY_DELAYS[min(message.returns, len(RETURNED_RETRY_DELAYS) - 1)]
        message = msgspec.structs.replace(message, returns=message.returns + 1)
        if not self._must_arrive(message):
            message.on_sent()
            message = msgspec.structs.replace(message, on_sent=lambda: None, on_dropped=lambda: None)
        task = asyncio.get_running_loop().create_task(self._send_returned(number, message, wait))
        self._returned.add(task)
        task.add_done_callback(self._returned.discard)

    async def _send_returned(self, number: int, message: OutgoingMessage, wait: float) -> None:
        try:
            is_ours = message.queue == topology.PARKED  # never declare a queue because a message names it
            if not is_ours or message.returns > 1:
                await asyncio.sleep(wait)
            if is_ours:
                await self._link.declare_once(topology.parked_queue())
        except ConnectionError as error:
            logger.debug("queue not declared, waiting for the next connection: %s queue=%s", error, message.queue)
        self._publish(number, message)

"""Reply publisher: publishes replies until the broker confirms them; only then is the delivery acknowledged.

While the broker is away, replies wait in the outbox. A client takes the first reply to a call and ignores a second.
"""

import functools
import logging
import socket
import time
from collections.abc import Callable

import msgspec

from crew.amqp import Confirm, ConfirmStatus, Delivery, Link
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.policy import REPLIES, OutboxPolicy
from crew.errors import ConnectionError, MessageRefused, TooLarge
from crew.protocol import failure, properties, topology, user_headers
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Outcome, Reply, Run
from crew.worker.execution.result import NO_BODY, Result, failed_with
from crew.worker.replies.known_stores import KnownStores
from crew.worker.replies.outgoing_reply import OutgoingReply

logger = logging.getLogger(__name__)

MAX_REASON = 1_000  # characters: a header shares its frame with the other properties

OnSent = Callable[[], object]


class ReplyPublisher:
    """Publishes replies, progress reports and parked messages. All methods run on the I/O thread.

    Args:
        worker: id of this worker, for the reply's headers.
        knows_store: whether a queue belongs to a job store whose gateway has contacted this worker; replies to it are
            retried without a limit. Default: no store is known.
        policy: how a message is published again, and what is kept while the broker is away.
    """

    def __init__(
        self,
        link: Link,
        worker: str,
        *,
        knows_store: Callable[[str], bool] = lambda queue: False,
        policy: OutboxPolicy = REPLIES,
    ) -> None:
        self._link = link
        self._worker = worker
        self._stores = KnownStores(knows_store)
        self._outbox = Outbox(link, policy)
        self._message = functools.partial(OutgoingReply, link=link, stores=self._stores)

    def __len__(self) -> int:
        """Messages without a confirm, for which a shutdown waits; those whose queue is gone are not counted."""
        return len(self._outbox)

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
            on_dropped: called when it is discarded, as too many messages wait for the broker.
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
        body = result.body.data
        is_value = result.outcome is Outcome.RETURNED or bool(result.headers)
        message = self._message(
            id=call.id,
            size=len(body),
            queue=call.reply_to,
            properties=properties.of_reply(reply),
            body=body,
            on_sent=on_sent,
            instead=functools.partial(self._reply_refused, call, on_sent, run) if is_value else None,
            on_discarded=on_dropped,
            is_report=run is not None,
        )
        self._outbox.send(message)

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
        """Send a progress report of the task of `call`; while the broker is away it waits in the outbox."""
        if call.reply_to is not None:
            of_reply = properties.of_reply(self._interim_reply(call, Outcome.PROGRESS, body, run))
            size = len(body.data)
            message = self._message(id=call.id, size=size, queue=call.reply_to, properties=of_reply, body=body.data)
            self._outbox.send(message)

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
        """Whether a message is published at once; otherwise it waits in the outbox."""
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
        message = self._message(
            id=parked.correlation_id,
            size=len(body),
            queue=topology.PARKED,
            properties=parked,
            body=body,
            on_sent=on_sent,
            instead=instead if can_be_less else None,
            on_discarded=on_dropped,
        )
        self._outbox.send(message)

    def send_waiting(self) -> None:
        """Send the messages that wait: the link is ready again, or has lost messages."""
        self._outbox.send_waiting()

    def stop(self) -> None:
        """Forget the messages that are not published; idempotent."""
        self._outbox.close()

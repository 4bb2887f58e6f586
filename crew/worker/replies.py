"""Replies on their way out: published, confirmed, and only then is the delivery acknowledged.

While the broker is away they wait here, and leave when it is back; the client takes the first reply to a call and
drops a second.
"""

import functools
import logging
import socket
import time
from collections.abc import Callable

import msgspec

from crew.amqp import ConfirmStatus, Delivery, Link
from crew.errors import ConnectionError
from crew.protocol import properties, topology, user_headers
from crew.protocol.message import Call, Outcome, Reply
from crew.worker.ended import NO_BODY, Ended

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000  # replies kept while the broker is away; prefetch bounds them first, except over many reconnects
MAX_REASON = 1_000  # characters: a header shares its frame with the other properties

OnSent = Callable[[], object]
_Publish = Callable[[], None]


class Replies:
    """Sends what executions came to.

    Args:
        worker: id of this worker, for the reply's headers.
    """

    def __init__(self, link: Link, worker: str) -> None:
        self._link = link
        self._worker = worker
        self._waiting: dict[int, _Publish] = {}
        self._unconfirmed = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._unconfirmed

    def answer(self, call: Call, ended: Ended, on_sent: OnSent) -> None:
        """Send the reply to `call`; `on_sent` when the broker has it, or nobody wants it."""
        if call.reply_to is None or ended.outcome is None:
            on_sent()
            return
        reply = Reply(
            id=call.id,
            outcome=ended.outcome,
            body=ended.body,
            persistent=call.persistent,
            worker=None if ended.outcome is Outcome.RETURNED else self._worker,
            message_id=call.message_id,
            headers=ended.headers,
        )
        self._send(call.reply_to, properties.of_reply(reply), ended.body.data, on_sent)

    def announce(self, call: Call) -> bool:
        """Tell the client that its call has started; False where the broker is away: try again while it runs."""
        if call.reply_to is None:
            return True
        reply = Reply(
            id=call.id,
            outcome=Outcome.STARTED,
            body=NO_BODY,
            persistent=False,
            worker=self._worker,
            message_id=call.message_id,
        )
        try:
            self._link.publish(
                topology.DEFAULT_EXCHANGE, call.reply_to, properties.of_reply(reply), b"", mandatory=False
            )
        except ConnectionError:
            return False
        return True

    def park(self, delivery: Delivery, reason: str, on_sent: OnSent, *, exit_status: str = "") -> None:
        """Put the message of `delivery` where it can be looked at, with the reason.

        Args:
            exit_status: how the last process ended that ran it, as `death.exit_status` has it; "" where none has.
        """
        logger.error("a message of %s is given up and parked in %s: %s", delivery.queue, topology.PARKED, reason)
        given = delivery.properties.headers or {}
        headers = {
            **user_headers.sendable(given),
            **properties.of_parked(given, reason=reason[:MAX_REASON], host=socket.gethostname(), status=exit_status),
            properties.TASK: topology.task_of_queue(delivery.queue),
        }
        parked = msgspec.structs.replace(
            delivery.properties, headers=headers, expiration=None, delivery_mode=2, timestamp=int(time.time())
        )
        self._send(topology.PARKED, parked, delivery.body, on_sent)

    def send_waiting(self) -> None:
        """Send what waits for the broker."""
        waiting, self._waiting = self._waiting, {}
        for publish in waiting.values():
            publish()

    def _send(self, queue: str, of_message: properties.Properties, body: bytes, on_sent: OnSent) -> None:
        self._count += 1
        self._publish(self._count, queue, of_message, body, on_sent)

    def _publish(
        self, number: int, queue: str, of_message: properties.Properties, body: bytes, on_sent: OnSent
    ) -> None:
        again = functools.partial(self._publish, number, queue, of_message, body, on_sent)
        try:
            confirm = self._link.publish(topology.DEFAULT_EXCHANGE, queue, of_message, body, mandatory=True)
        except ConnectionError:
            self._keep(number, again)
            return
        self._unconfirmed += 1
        confirm.then(functools.partial(self._on_confirm, number, again, queue, on_sent))

    def _on_confirm(self, number: int, again: _Publish, queue: str, on_sent: OnSent, status: ConfirmStatus) -> None:
        self._unconfirmed -= 1
        if status is ConfirmStatus.LOST:
            self._keep(number, again)
            return
        if status is not ConfirmStatus.CONFIRMED:
            logger.info("a reply is dropped, as its client is gone: %s was %s", queue, status.value)
        on_sent()

    def _keep(self, number: int, publish: _Publish) -> None:
        self._waiting[number] = publish
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[min(self._waiting)]
            logger.error("a reply is dropped: %d wait for the broker already", MAX_WAITING)

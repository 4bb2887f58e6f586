"""Outgoing retry: a call on its way to the queue of its task again."""

import functools
import time
from collections.abc import Callable
from typing import Final

from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.outbox.outgoing import Outgoing
from crew.errors import CrewError, ExpirationError, MessageRefused
from crew.protocol import deadline, properties, topology
from crew.protocol.message import Call
from crew.worker.replies.delay_queues import DelayQueues

NOT_IN_TIME: Final = "the broker did not accept the call in time"


class OutgoingRetry(Outgoing):
    """A call that goes to the queue of its task again, through the queue of its delay.

    Args:
        way_back: the queue of its task.
        is_wanted: whether it still has to be published; else the broker redelivers it by itself.
        until: its deadline, which it must not pass in the delay queue (time.time() of its sender). Default: no check.
        on_sent: called when the broker has it.
        on_failed: called with an error if the broker does not accept it, and with None if it did not in time.
    """

    def __init__(
        self,
        link: Link,
        queues: DelayQueues,
        call: Call,
        *,
        delay: float,
        way_back: str,
        is_wanted: Callable[[], bool],
        until: float | None = None,
        on_sent: Callable[[], object],
        on_failed: Callable[[Exception | None], object],
    ) -> None:
        self.id = call.id
        self.size = len(call.body.data)
        self._link = link
        self._queues = queues
        self._call = call
        self._delay = delay
        self._delay_ms = round(delay * 1000)
        self._way_back = way_back
        self._is_wanted = is_wanted
        self._until = until
        self._on_sent = on_sent
        self._on_failed = on_failed
        if self._delay_ms:
            self.prepare = functools.partial(queues.declare, self._delay_ms)

    def is_wanted(self) -> bool:
        """Whether the broker does not redeliver it by itself."""
        return self._is_wanted()

    def publish(self) -> Confirm:
        """Publish it once; raise ConnectionError, or ExpirationError if it would be delayed past its deadline."""
        call, delay_ms = self._call, self._delay_ms
        now = call.sender_time(time.time())
        if deadline.is_past(self._until, now + self._delay):
            raise ExpirationError(NOT_IN_TIME)
        return self._link.publish(
            topology.RETRY if delay_ms else topology.DEFAULT_EXCHANGE,
            self._way_back,
            properties.of_retry(call, delay_ms, now=now) if delay_ms else properties.of_call(call, now=now),
            call.body.data,
            mandatory=True,
        )

    def on_retry(self, status: ConfirmStatus) -> None:
        """If it was returned, the delay queue was deleted."""
        if status is ConfirmStatus.RETURNED:
            self._queues.on_deleted(self._delay_ms)

    def on_settled(self, confirm: Confirm) -> None:
        """The broker has it, or does not accept it."""
        match confirm.status:
            case ConfirmStatus.CONFIRMED:
                self._on_sent()
            case ConfirmStatus.INVALID:
                self._on_failed(MessageRefused(f"the broker does not accept it: {confirm.reason}"))
            case ConfirmStatus.TOO_LARGE:
                self._on_failed(MessageRefused("it is larger than the broker accepts"))
            case _:
                self._on_failed(None)

    def on_failed(self, error: Exception) -> None:
        """It cannot be published any more."""
        self._on_failed(None if isinstance(error, CrewError) else error)

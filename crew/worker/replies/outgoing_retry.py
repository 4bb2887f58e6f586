"""Outgoing retry: a call on its way to the queue of its task again."""

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


class OutgoingRetry(Outgoing, kw_only=True):
    """A call that goes to the queue of its task again, through the queue of its delay.

    Attributes:
        way_back: the queue of its task.
        delay: seconds.
        wanted: whether it still has to be published; else the broker redelivers it by itself.
        until: its deadline, which it must not pass in the delay queue (time.time() of its sender). Default: no check.
        on_sent: called when the broker has it.
        on_refused: called with an error if the broker does not accept it, and with None if it did not in time.
    """

    link: Link
    queues: DelayQueues
    call: Call
    way_back: str
    delay: float
    wanted: Callable[[], bool]
    until: float | None = None
    on_sent: Callable[[], object]
    on_refused: Callable[[Exception | None], object]

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds."""
        return round(self.delay * 1000)

    def is_wanted(self) -> bool:
        """Whether the broker does not redeliver it by itself."""
        return self.wanted()

    def publish(self) -> Confirm:
        """Publish it once; raise ConnectionError, or ExpirationError if it would be delayed past its deadline."""
        call, delay_ms = self.call, self.delay_ms
        now = call.sender_time(time.time())
        if deadline.is_past(self.until, now + self.delay):
            raise ExpirationError(NOT_IN_TIME)
        return self.link.publish(
            topology.RETRY if delay_ms else topology.DEFAULT_EXCHANGE,
            self.way_back,
            properties.of_retry(call, delay_ms, now=now) if delay_ms else properties.of_call(call, now=now),
            call.body.data,
            mandatory=True,
        )

    def on_retry(self, status: ConfirmStatus) -> None:
        """If it was returned, the delay queue was deleted."""
        if status is ConfirmStatus.RETURNED:
            self.queues.on_deleted(self.delay_ms)

    def on_settled(self, confirm: Confirm) -> None:
        """The broker has it, or does not accept it."""
        match confirm.status:
            case ConfirmStatus.CONFIRMED:
                self.on_sent()
            case ConfirmStatus.INVALID:
                self.on_refused(MessageRefused(f"the broker does not accept it: {confirm.reason}"))
            case ConfirmStatus.TOO_LARGE:
                self.on_refused(MessageRefused("it is larger than the broker accepts"))
            case _:
                self.on_refused(None)

    def on_failed(self, error: Exception) -> None:
        """It cannot be published any more."""
        self.on_refused(None if isinstance(error, CrewError) else error)

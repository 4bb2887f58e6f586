"""The broker's word on a published message: https://www.rabbitmq.com/docs/confirms#publisher-confirms."""

import asyncio
import enum
from collections.abc import Callable, Generator
from typing import Any


class ConfirmStatus(enum.Enum):
    """What became of a published message."""

    CONFIRMED = "confirmed"  # the broker has it
    RETURNED = "returned"  # no queue takes it
    REFUSED = "refused"  # the queue is full
    TOO_LARGE = "too large"  # the broker has closed the channel over it, and would again
    LOST = "lost"  # the channel closed before the broker said anything, or the broker never did: see confirm_timeout.py


class Confirm:
    """The broker's word on one published message; can be awaited, or told to call back at once."""

    __slots__ = ("_on_settled", "exchange", "key", "routing_key", "size", "status")

    def __init__(
        self,
        key: str | None,
        size: int = 0,
        status: ConfirmStatus | None = None,
        exchange: str = "",
        routing_key: str = "",
    ) -> None:
        self.key = key  # id of the message
        self.exchange = exchange
        self.routing_key = routing_key
        self.size = size  # bytes of the message's body
        self.status = status
        self._on_settled: Callable[[ConfirmStatus], None] | None = None

    def __repr__(self) -> str:
        return f"<Confirm of {self.key}: {self.status.value if self.status else 'pending'}>"

    def __await__(self) -> Generator[Any, None, ConfirmStatus]:
        if self.status is None:
            future: asyncio.Future[ConfirmStatus] = asyncio.get_running_loop().create_future()
            self.then(lambda status: None if future.done() else future.set_result(status))
            return (yield from future)
        return self.status

    def then(self, on_settled: Callable[[ConfirmStatus], None]) -> None:
        """Call `on_settled(status)` when the broker has spoken: the one listener that a confirm has."""
        if self.status is not None:
            on_settled(self.status)
        else:
            self._on_settled = on_settled

    def settle(self, status: ConfirmStatus) -> None:
        """The broker has spoken."""
        self.status = status
        if self._on_settled is not None:
            self._on_settled(status)

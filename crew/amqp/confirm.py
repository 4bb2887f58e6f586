"""The broker's word on a published message: https://www.rabbitmq.com/docs/confirms#publisher-confirms."""

import asyncio
import enum
from collections.abc import Callable, Generator
from typing import Any, Final

from crew.protocol.properties import Properties


class ConfirmStatus(enum.Enum):
    """What became of a published message."""

    CONFIRMED = "confirmed"  # the broker has it
    RETURNED = "returned"  # no queue takes it
    REFUSED = "refused"  # the queue is full
    TOO_LARGE = "too large"  # the broker has closed the channel over it, and would again
    INVALID = "invalid"  # the same, for another reason: see Confirm.reason; or it cannot be encoded
    LOST = "lost"  # the channel closed before the broker said anything, or the broker never did: see confirm_timeout.py


_NOTHING: Final = Properties()


class Confirm:
    """A published message, and the broker's word on it; can be awaited, or told to call back at once.

    Attributes:
        exchange, routing_key, properties, body, mandatory: the message, as it was published.
        status: what became of it; None until the broker has spoken.
    """

    __slots__ = ("_on_settled", "_reason", "body", "exchange", "mandatory", "properties", "routing_key", "status")

    def __init__(
        self,
        exchange: str = "",
        routing_key: str = "",
        properties: Properties = _NOTHING,
        body: bytes = b"",
        mandatory: bool = False,
        status: ConfirmStatus | None = None,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.mandatory = mandatory
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

    @property
    def key(self) -> str | None:
        """Id of the message."""
        return self.properties.correlation_id

    @property
    def is_persistent(self) -> bool:
        """Whether the message is to outlive a restart of the broker: then it may arrive twice rather than never."""
        return self.properties.delivery_mode == 2

    @property
    def reason(self) -> str:
        """Why the message is INVALID, in one line; else ""."""
        return getattr(self, "_reason", "")  # set where it is needed: most messages never have one

    def then(self, on_settled: Callable[[ConfirmStatus], None]) -> None:
        """Call `on_settled(status)` when the broker has spoken: the one listener that a confirm has."""
        if self.status is not None:
            on_settled(self.status)
        else:
            self._on_settled = on_settled

    def settle(self, status: ConfirmStatus) -> None:
        """The broker has spoken."""
        self.status = status
        on_settled = self._on_settled
        self._on_settled = None  # it may refer to this confirm, and would outlive its call
        if on_settled is not None:
            on_settled(status)

    def refuse(self, reason: str) -> None:
        """The message is INVALID for `reason`."""
        self._reason = reason
        self.settle(ConfirmStatus.INVALID)

    def copy(self) -> "Confirm":
        """The same message, not published yet."""
        return type(self)(self.exchange, self.routing_key, self.properties, self.body, self.mandatory)


class Forwarded(Confirm):
    """A message of another sender that is moved: it keeps its signature, or has none."""

    __slots__ = ()

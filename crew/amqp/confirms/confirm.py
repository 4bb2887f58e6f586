"""Publisher confirms: the broker's result for each published message.

See https://www.rabbitmq.com/docs/confirms#publisher-confirms.
"""

import asyncio
import enum
from collections.abc import Callable, Generator
from typing import Any, Final

from crew.protocol.properties import Properties


class ConfirmStatus(enum.Enum):
    """The result for a published message."""

    CONFIRMED = "confirmed"  # the broker has the message
    RETURNED = "returned"  # no queue takes the message
    REFUSED = "refused"  # the queue is full, or has no leader
    TOO_LARGE = "too large"  # larger than the broker's limit: it closed the channel, and would close it again
    INVALID = "invalid"  # refused for another reason, see Confirm.reason; or it cannot be encoded
    LOST = "lost"  # the channel closed before the confirm, or there was none in time, see confirm_timeout.py


_NOTHING: Final = Properties()


class Confirm:
    """A published message and its result. Await it, or set a callback with `then`.

    Attributes:
        exchange, routing_key, properties, body, mandatory: the message as it was published.
        status: the result; None until the broker has confirmed or refused the message.
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
        """The id of the message (correlation_id)."""
        return self.properties.correlation_id

    @property
    def is_persistent(self) -> bool:
        """Whether the message survives a restart of the broker. Then it is published twice rather than lost."""
        return self.properties.delivery_mode == 2

    @property
    def reason(self) -> str:
        """Why the message is INVALID, in one line; else ""."""
        return getattr(self, "_reason", "")  # set only where needed: most messages have no reason

    def then(self, on_settled: Callable[[ConfirmStatus], None]) -> None:
        """Call `on_settled(status)` when the result is known. A confirm has one callback at most."""
        if self.status is not None:
            on_settled(self.status)
        else:
            self._on_settled = on_settled

    def settle(self, status: ConfirmStatus) -> None:
        """Set the result and call the callback."""
        self.status = status
        on_settled = self._on_settled
        self._on_settled = None  # it may refer to this confirm: a reference cycle would keep both in memory
        if on_settled is not None:
            on_settled(status)

    def refuse(self, reason: str) -> None:
        """Settle the message as INVALID because of `reason`."""
        self._reason = reason
        self.settle(ConfirmStatus.INVALID)

    def copy(self) -> "Confirm":
        """Return the same message, not published yet."""
        return type(self)(self.exchange, self.routing_key, self.properties, self.body, self.mandatory)


class Forwarded(Confirm):
    """A message of another sender that is moved: it keeps its signature or its lack of one."""

    __slots__ = ()

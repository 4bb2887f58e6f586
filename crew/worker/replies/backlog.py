"""Reply backlog: replies that wait while the broker is away, in order, bounded in number and bytes.

Usually the prefetch bounds them, unless connections break again and again. When the backlog is full, the oldest replies
are discarded. A discarded reply is not the end of its call: if the delivery is still unacknowledged it is requeued and
the call runs again; otherwise the broker has taken it back already.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp import Confirm
from crew.protocol.properties import Properties

logger = logging.getLogger(__name__)

MAX_REPLIES: Final = 10_000
MAX_BYTES: Final = 256 * 1024 * 1024  # of bodies: 16 of the largest; more could exhaust the worker's memory


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message to be published until the broker has confirmed it.

    Attributes:
        on_sent: called when the broker has confirmed it, or its receiver is gone.
        instead: called with its Confirm if the broker does not accept it, because it is too large or invalid.
        on_dropped: called when the backlog discards it.
        returns: how often the broker has returned it because its queue does not exist.
        is_report: whether it reports the end of a job to its store.
        until: time.monotonic() at which it is discarded if its queue refuses it; None before the first refusal.
    """

    queue: str
    properties: Properties
    body: bytes
    on_sent: Callable[[], object]
    instead: Callable[[Confirm], None] | None
    on_dropped: Callable[[], object] = lambda: None
    returns: int = 0
    until: float | None = None
    is_report: bool = False


class Backlog:
    """Waiting messages, ordered by number: the order in which they were first sent."""

    def __init__(self, *, max_replies: int = MAX_REPLIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_replies = max_replies
        self._max_bytes = max_bytes
        self._waiting: dict[int, OutgoingMessage] = {}
        self._dropped = 0  # since the last `take`
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Backlog: {len(self)} replies, {self.bytes} bytes>"

    def add(self, number: int, message: OutgoingMessage) -> None:
        """Add a message; if the backlog is full, discard the oldest ones."""
        self._waiting[number] = message
        self.bytes += len(message.body)
        while len(self._waiting) > self._max_replies or self.bytes > self._max_bytes:
            self._drop(min(self._waiting))

    def take(self) -> dict[int, OutgoingMessage]:
        """Remove and return all messages, the oldest first."""
        waiting, self._waiting, self.bytes = self._waiting, {}, 0
        if self._dropped:
            logger.error("reply backlog sent: %d replies were discarded while the broker was away", self._dropped)
            self._dropped = 0
        return dict(sorted(waiting.items()))

    def _drop(self, number: int) -> None:
        message = self._waiting.pop(number)
        self.bytes -= len(message.body)
        if not self._dropped:
            logger.error(
                "reply backlog full: discarding the oldest replies until the broker is back (limits: %d replies, %d "
                "bytes) call_id=%s",
                self._max_replies,
                self._max_bytes,
                message.properties.correlation_id,
            )
        self._dropped += 1
        message.on_dropped()

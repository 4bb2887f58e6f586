"""Replies that wait for the broker: in their order, bounded in number and bytes, the oldest dropped first.

Prefetch bounds them before that, unless connections break again and again. A dropped reply is not the end of its call:
where the broker still counts its delivery as ours it goes back and runs again, and else the broker has it already.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp import Confirm
from crew.protocol.properties import Properties

logger = logging.getLogger(__name__)

MAX_REPLIES: Final = 10_000
MAX_BYTES: Final = 256 * 1024 * 1024  # of bodies: 16 of the largest; a worker must not die of what it keeps


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message on its way.

    Attributes:
        on_sent: called when the broker has it, or nobody wants it.
        instead: called with its Confirm where the broker does not accept it: it is too large, or refused for another
            reason.
        on_dropped: called where it is given up, though somebody may want it.
        returns: how often it has come back, as its queue was not there.
        is_report: whether it is the end of a job, on its way to its store.
        until: time.monotonic() at which it is given up where its queue refuses it; None before the first time.
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
    """What waits, by number: the order in which it was first sent."""

    def __init__(self, *, max_replies: int = MAX_REPLIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_replies = max_replies
        self._max_bytes = max_bytes
        self._waiting: dict[int, OutgoingMessage] = {}
        self._dropped = 0  # since the broker was there
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Backlog: {len(self)} replies, {self.bytes} bytes>"

    def keep(self, number: int, message: OutgoingMessage) -> None:
        """Keep it, at the cost of the oldest ones where there is no room."""
        self._waiting[number] = message
        self.bytes += len(message.body)
        while len(self._waiting) > self._max_replies or self.bytes > self._max_bytes:
            self._drop(min(self._waiting))

    def take(self) -> dict[int, OutgoingMessage]:
        """All of it, the oldest first: the broker is back."""
        waiting, self._waiting, self.bytes = self._waiting, {}, 0
        if self._dropped:
            logger.error("the broker is back: %d replies that waited for it were dropped", self._dropped)
            self._dropped = 0
        return dict(sorted(waiting.items()))

    def _drop(self, number: int) -> None:
        message = self._waiting.pop(number)
        self.bytes -= len(message.body)
        if not self._dropped:
            logger.error("more replies wait for the broker than are kept (%d, %d bytes): the oldest go", *self._bounds)
        self._dropped += 1
        message.on_dropped()

    @property
    def _bounds(self) -> tuple[int, int]:
        return self._max_replies, self._max_bytes

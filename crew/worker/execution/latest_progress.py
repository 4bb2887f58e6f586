"""The latest progress of one job that was not sent yet: there is room for one value, the newest.

The task's own thread writes it, and the I/O thread takes it. An interrupt may be raised between any two lines, so this
holds no lock.
"""

import collections
import functools
import math
from typing import Final

import msgspec

from crew.protocol.message import Body

WAKE_AGAIN_AFTER: Final = 0.05  # seconds until the next wake-up: an interrupt may have prevented the one before


class LatestProgress(msgspec.Struct, eq=False, gc=False):
    """The progress value on its way from a task to the I/O thread.

    Attributes:
        sent_at: time.monotonic() at which the last value was sent.
        sent: number of values that were sent.
    """

    sent_at: float = -math.inf
    sent: int = 0
    _woken_at: float = -math.inf  # time.monotonic() of a wake-up that is on its way
    _latest: collections.deque[Body] = msgspec.field(default_factory=functools.partial(collections.deque, maxlen=1))

    def __bool__(self) -> bool:
        return bool(self._latest)

    def __repr__(self) -> str:
        return f"<LatestProgress: {'a value' if self else 'nothing'} to be sent>"

    def put(self, body: Body, now: float) -> bool:
        """Replace the value by `body`; return whether the caller has to wake the I/O thread."""
        self._latest.append(body)
        wakes = now - self._woken_at >= WAKE_AGAIN_AFTER
        if wakes:
            self._woken_at = now
        return wakes

    def take(self, now: float) -> Body | None:
        """Remove and return the value; None if there is none. Called on the I/O thread."""
        self._woken_at = -math.inf  # first of all: each `put` from now on wakes the I/O thread again
        if not self._latest:
            return None
        self.sent_at = now
        self.sent += 1
        return self._latest.pop()


NO_PROGRESS: Final = LatestProgress()  # of each call that is no job: its progress is not reported

"""What the task of one job has said of it, and was not sent yet: room for one value, the newest.

Its own thread writes, the I/O thread takes. An interrupt may land between any two lines, so no lock of ours is held.
"""

import collections
import math
from typing import Final

from crew.protocol.message import Body

LOST_AFTER: Final = 0.05  # seconds after which a wake-up is sent once more: an interrupt may have landed before it


class Said:
    """The word on its way from a task to the I/O thread.

    Attributes:
        sent_at: time.monotonic() at which one was sent last.
        sent: how many were sent.
    """

    def __init__(self) -> None:
        self._latest: collections.deque[Body] = collections.deque(maxlen=1)
        self._woken_at = -math.inf  # time.monotonic() of a wake-up that is on its way
        self.sent_at = -math.inf
        self.sent = 0

    def __bool__(self) -> bool:
        return bool(self._latest)

    def __repr__(self) -> str:
        return f"<Said: {'a value' if self else 'nothing'} to be sent>"

    def put(self, body: Body, now: float) -> bool:
        """Say `body` in place of what was said before; whether the I/O thread has to be woken."""
        self._latest.append(body)
        wakes = now - self._woken_at >= LOST_AFTER
        if wakes:
            self._woken_at = now
        return wakes

    def take(self, now: float) -> Body | None:
        """What was said last, if it was not taken yet. On the I/O thread."""
        self._woken_at = -math.inf  # before the look: what is said from now on wakes again
        if not self._latest:
            return None
        self.sent_at = now
        self.sent += 1
        return self._latest.pop()

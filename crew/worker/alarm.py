"""The kernel timer of the process: its signal comes also while the I/O thread waits for its turn."""

import math
import signal
import time
from typing import Final

LONGEST: Final = 86_400.0  # seconds; the kernel's own bound is lower than what a foreign message may ask for

ALARM: Final = signal.SIGALRM


class Alarm:
    """Sends ALARM by an instant, and that may be too early: who handles it looks at the clock, and arms it again."""

    def __init__(self) -> None:
        self._rings_at = math.inf  # time.monotonic()

    def ring_by(self, limit: float | None) -> None:
        """Ring by `limit` (time.monotonic()). An alarm that rings earlier is left alone.

        So a stream of short tasks costs no system call. One that should have rung is gone: a task has stopped it.
        """
        if limit is None:
            return
        now = time.monotonic()
        if limit < self._rings_at or self._rings_at < now:
            self._rings_at = limit
            signal.setitimer(signal.ITIMER_REAL, min(max(limit - now, 1e-6), LONGEST))

    def rang(self) -> None:
        """It has rung, or nobody knows."""
        self._rings_at = math.inf

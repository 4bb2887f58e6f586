"""Prefetch of a queue: as many deliveries as keep the executor busy for about 10 ms, by the measured run time.

A strict prefetch of 1 costs short tasks a factor of 4 in throughput, since the executor waits for the broker between
two executions. With a large prefetch, urgent calls wait behind calls that were fetched before them.
"""

import collections
from typing import Final

AHEAD: Final = 0.010  # seconds of work to fetch ahead
LEVELS: Final = (0, 4, 16, 64)  # deliveries ahead; coarse, because each change needs a new consumer at the broker
SETTLED: Final = 8  # executions to measure before anything is fetched ahead


class Prefetch:
    """Prefetch of one queue.

    Args:
        slots: executions that may run at once.
        fixed: fixed prefetch; None to follow the measured run time.
    """

    def __init__(self, slots: int, fixed: int | None = None) -> None:
        self._slots = slots
        self._fixed = fixed
        self._ahead = 0
        self._seen = 0
        self._last: collections.deque[float] = collections.deque(maxlen=SETTLED)
        self._typical = 0.0  # seconds per execution: the median, as a mean would follow every pause of the process

    def __repr__(self) -> str:
        return f"<Prefetch {self.window}: {self._typical * 1000:.3f} ms an execution>"

    @property
    def window(self) -> int:
        """Maximum of unacknowledged deliveries, started or not."""
        return self._fixed or self._slots + self._ahead

    @property
    def is_quick(self) -> bool:
        """Whether the last executions took at most AHEAD seconds."""
        return self._seen >= SETTLED and self._typical <= AHEAD

    def observe(self, seconds: float) -> bool:
        """Record that an execution took `seconds`; returns whether the window has changed."""
        before = self.window
        self._seen += 1
        long = seconds > AHEAD  # after a single long run nothing is fetched ahead
        if long:
            self._last.clear()
        self._last.append(seconds)
        self._typical = sorted(self._last)[len(self._last) // 2]
        if self._seen >= SETTLED or long:
            self._ahead = self._level()
        return self.window != before

    def _level(self) -> int:
        """Highest level that the typical run time allows; the present one stays until only half of it is allowed."""
        allowed = AHEAD / max(self._typical, 1e-9) if self._seen >= SETTLED else 0.0
        best = max(level for level in LEVELS if level <= allowed)
        return self._ahead if best < self._ahead and allowed >= self._ahead / 2 else best

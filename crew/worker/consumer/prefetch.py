"""Prefetch of a queue: as many deliveries as keep the executor busy for about 10 ms, by the measured run time.

A strict prefetch of 1 costs short tasks a factor of 4 in throughput, since the executor waits for the broker between
two executions. With a large prefetch, urgent calls wait behind calls that were fetched before them.
"""

import bisect
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

    Attributes:
        window: maximum of unacknowledged deliveries, started or not.
        is_quick: whether the last executions took at most AHEAD seconds.
    """

    def __init__(self, slots: int, fixed: int | None = None) -> None:
        self._slots = slots
        self._fixed = fixed
        self._ahead = 0
        self._seen = 0
        self.window = fixed or slots
        self.is_quick = False
        self._last: collections.deque[float] = collections.deque(maxlen=SETTLED)
        self._typical = 0.0  # seconds per execution: the median, as a mean would follow every pause of the process

    def __repr__(self) -> str:
        return f"<Prefetch {self.window}: {self._typical * 1000:.3f} ms an execution>"

    def observe(self, seconds: float) -> bool:
        """Record that an execution took `seconds`; returns whether the window has changed."""
        self._seen += 1
        long = seconds > AHEAD  # after a single long run nothing is fetched ahead
        if long:
            self._last.clear()
        self._last.append(seconds)
        self._typical = sorted(self._last)[len(self._last) // 2]
        is_settled = self._seen >= SETTLED
        self.is_quick = is_settled and self._typical <= AHEAD
        if not (is_settled or long):
            return False
        allowed = AHEAD / max(self._typical, 1e-9)  # less than 1 after a long run
        best = LEVELS[bisect.bisect_right(LEVELS, allowed) - 1]
        # The present level stays until the typical run time allows only half of it.
        if best == self._ahead or (best < self._ahead and allowed >= self._ahead / 2):
            return False
        self._ahead = best
        self.window = self._fixed or self._slots + best
        return self._fixed is None

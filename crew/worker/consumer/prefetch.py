"""How many deliveries of a queue a worker may hold: about 10 ms of work ahead of its executor.

A strict prefetch of 1 costs short tasks a factor of 4 in throughput, since the executor waits for the broker between
any two; a large one keeps urgent calls waiting behind what was fetched before them. So it follows the measured run
time.
"""

import collections
from typing import Final

AHEAD: Final = 0.010  # seconds of work to hold ahead
LEVELS: Final = (0, 4, 16, 64)  # deliveries ahead; coarse, because a change costs the broker a new consumer
SETTLED: Final = 8  # executions to look at before anything is fetched ahead


class Prefetch:
    """The window of one queue.

    Args:
        slots: executions that may run at once.
        fixed: a window that does not follow anything; None to measure.
    """

    def __init__(self, slots: int, fixed: int | None = None) -> None:
        self._slots = slots
        self._fixed = fixed
        self._ahead = 0
        self._seen = 0
        self._last: collections.deque[float] = collections.deque(maxlen=SETTLED)
        self._typical = 0.0  # seconds an execution: the median, as a mean would follow every pause of the process

    def __repr__(self) -> str:
        return f"<Prefetch {self.window}: {self._typical * 1000:.3f} ms an execution>"

    @property
    def window(self) -> int:
        """Deliveries to hold at most, started or not."""
        return self._fixed or self._slots + self._ahead

    @property
    def is_quick(self) -> bool:
        """Whether executions are known to end within some milliseconds."""
        return self._seen >= SETTLED and self._typical <= AHEAD

    def observe(self, seconds: float) -> bool:
        """An execution took `seconds`; whether the window has changed."""
        before = self.window
        self._seen += 1
        long = self._seen == 1 or seconds > AHEAD  # one long run is reason enough to fetch nothing ahead
        if long:
            self._last.clear()
        self._last.append(seconds)
        self._typical = sorted(self._last)[len(self._last) // 2]
        if self._seen >= SETTLED or long:
            self._ahead = self._level()
        return self.window != before

    def _level(self) -> int:
        """The highest level that the typical run allows; the present one is kept until half of it is forbidden."""
        allowed = AHEAD / max(self._typical, 1e-9) if self._seen >= SETTLED else 0.0
        best = max(level for level in LEVELS if level <= allowed)
        return self._ahead if best < self._ahead and allowed >= self._ahead / 2 else best

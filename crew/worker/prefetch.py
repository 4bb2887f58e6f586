"""How many deliveries of a queue a worker may hold: about 10 ms of work ahead of its lane.

A strict prefetch of 1 costs short tasks a factor of 4 in throughput, since the lane waits for the broker between any
two; a large one keeps urgent calls waiting behind what was fetched before them. So it follows the measured run time.
"""

from typing import Final

AHEAD: Final = 0.010  # seconds of work to hold ahead
LEVELS: Final = (0, 4, 16, 64)  # deliveries ahead; coarse, because a change costs the broker a new consumer
SETTLED: Final = 8  # executions to look at before anything is fetched ahead
_WEIGHT: Final = 0.1  # of the newest run time in the average


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
        self._average = 0.0

    def __repr__(self) -> str:
        return f"<Prefetch {self.window}: {self._average * 1000:.3f} ms an execution>"

    @property
    def window(self) -> int:
        """Deliveries to hold at most, started or not."""
        return self._fixed or self._slots + self._ahead

    def observe(self, seconds: float) -> bool:
        """An execution took `seconds`; whether the window has changed."""
        before = self.window
        self._seen += 1
        long = self._seen == 1 or seconds > AHEAD  # one long run is reason enough to fetch nothing ahead
        self._average = seconds if long else self._average + _WEIGHT * (seconds - self._average)
        if self._seen >= SETTLED or long:
            self._ahead = self._level()
        return self.window != before

    def _level(self) -> int:
        """The highest level that the average allows; the present one is kept until the average forbids half of it."""
        allowed = AHEAD / max(self._average, 1e-9) if self._seen >= SETTLED else 0.0
        best = max(level for level in LEVELS if level <= allowed)
        return self._ahead if best < self._ahead and allowed >= self._ahead / 2 else best

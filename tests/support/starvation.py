"""Measures how long this process waited for a CPU: delays of a busy machine are not failures of crew."""

import bisect
import contextlib
import time
from pathlib import Path
from typing import Final

WAITED: Final = Path("/proc/self/schedstat")  # of the main thread: ns on a CPU, ns in its queue, turns; Linux only


class Starvation:
    """Samples of the total time that the main thread has waited for a CPU."""

    def __init__(self) -> None:
        self._times = [0.0]
        self._waited = [0.0]

    def look(self) -> None:
        """Take a sample."""
        with contextlib.suppress(FileNotFoundError):
            self._waited.append(int(WAITED.read_text().split()[1]) / 1e9)
            self._times.append(time.monotonic())

    def between(self, since: float, until: float) -> float:
        """Seconds waited from `since` to `until` (time.monotonic()), by the samples that enclose them."""
        first = bisect.bisect_right(self._times, since) - 1
        last = min(bisect.bisect_left(self._times, until), len(self._times) - 1)
        return max(0.0, self._waited[last] - self._waited[first])

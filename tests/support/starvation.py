"""How long this process was ready to run and had no CPU: what a busy machine takes is no promise that was broken."""

import bisect
import contextlib
import time
from pathlib import Path
from typing import Final

WAITED: Final = Path("/proc/self/schedstat")  # of the main thread: ns on a CPU, ns in its queue, turns; Linux only


class Starvation:
    """Samples of the seconds for which the main thread has waited for a CPU so far."""

    def __init__(self) -> None:
        self._times = [0.0]
        self._waited = [0.0]

    def look(self) -> None:
        """Take a sample, now."""
        with contextlib.suppress(FileNotFoundError):
            self._waited.append(int(WAITED.read_text().split()[1]) / 1e9)
            self._times.append(time.monotonic())

    def between(self, since: float, until: float) -> float:
        """Seconds waited from `since` to `until` (time.monotonic()), by the samples that enclose them."""
        first = bisect.bisect_right(self._times, since) - 1
        last = min(bisect.bisect_left(self._times, until), len(self._times) - 1)
        return max(0.0, self._waited[last] - self._waited[first])

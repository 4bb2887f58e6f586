"""Measures for how long the reports of jobs have reached the store without a gap.

A gateway that was stopped, or could not use the store or the broker, does not know what workers reported meanwhile.
It must not end a job before it has caught up.
"""

import time
from collections.abc import Callable
from typing import Final

# Between two checks of the clock. A longer gap means that this process was stopped, its host slept, or its clock was
# set. Reports that arrived in the gap are still in the queue, and the latest known reports are older than they seem.
MAX_GAP: Final = 10.0  # seconds


class Continuity:
    """Seconds without a gap.

    Args:
        consuming_for: seconds for which this gateway has consumed job reports without a break.

    Attributes:
        since: the end of the last gap, time.monotonic().
    """

    def __init__(self, consuming_for: Callable[[], float]) -> None:
        self._consuming_for = consuming_for
        self.since = time.monotonic()
        self._checked_at = time.time()

    @property
    def seconds(self) -> float:
        """Seconds for which all reports of jobs have reached their records."""
        return min(self._consuming_for(), time.monotonic() - self.since)

    def check_clock(self) -> None:
        """Start again if the clock shows a gap."""
        now = time.time()
        if abs(now - self._checked_at) > MAX_GAP:
            self.restart()
        self._checked_at = now

    def restart(self) -> None:
        """Count from now: reports may have been missed."""
        self.since = time.monotonic()

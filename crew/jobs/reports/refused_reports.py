"""Counts and logs the job reports that are discarded. The number of log lines is limited.

Every program that can write to the broker could send thousands of bad reports a second.
"""

import collections
import logging
from collections.abc import Callable
from typing import Final

from crew.clock import monotonic_time
from crew.log import LineLimit

logger = logging.getLogger(__name__)

LINES: Final = 5  # within EVERY seconds; further messages are counted, and the next line has their number
EVERY: Final = 10.0  # seconds

UNREADABLE: Final = "unreadable"  # not the report of a worker, or its id is not the id of a job
REJECTED: Final = "rejected"  # the database will never accept it

discarded: Final = collections.Counter[str]({UNREADABLE: 0, REJECTED: 0})  # by reason, in this process


class RefusedReports:
    """The discarded reports of one store.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_time) -> None:
        self._limit = LineLimit(LINES, EVERY, clock)

    def discard(self, reason: str, queue: str, why: object) -> None:
        """Count a discarded report, and log it unless the limit is reached.

        Args:
            reason: UNREADABLE or REJECTED.
            queue: that the report came from.
            why: the cause, in one clause.
        """
        discarded[reason] += 1
        held_back = self._limit.held_back()
        if held_back is None:
            return
        more = f" (and {held_back} more since the last line)" if held_back else ""
        logger.error("job report discarded: queue=%s reason=%s: %s%s", queue, reason, why, more)

"""Counts the messages in the queue of a job store that are discarded, and logs them within bounds.

Anybody who can write to the broker can send thousands of them in a second.
"""

import collections
import logging
import time
from collections.abc import Callable
from typing import Final

from crew.log import LineLimit

logger = logging.getLogger(__name__)

LINES: Final = 5  # within EVERY seconds; messages beyond that are counted, and the next line says how many
EVERY: Final = 10.0  # seconds

UNREADABLE: Final = "unreadable"  # not the report of a worker, or its id is not that of a job
REJECTED: Final = "rejected"  # the database will never take it

discarded: Final = collections.Counter[str]({UNREADABLE: 0, REJECTED: 0})  # by reason, in this process


class Refusals:
    """The discarded messages of one store.

    Args:
        clock: seconds that pass; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = LineLimit(LINES, EVERY, clock)

    def discard(self, reason: str, queue: str, why: object) -> None:
        """Count a message that is discarded, and log it where a line is left.

        Args:
            reason: UNREADABLE or REJECTED.
            queue: where it was.
            why: in one clause.
        """
        discarded[reason] += 1
        held_back = self._limit.held_back()
        if held_back is None:
            return
        more = f" (and {held_back} others since the last line)" if held_back else ""
        logger.error("job report discarded: queue=%s reason=%s: %s%s", queue, reason, why, more)

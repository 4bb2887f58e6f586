"""Worker processes that are frozen: something runs on in them after its limit and grace, which they had to end.

That is a task in C code that never lets another thread run, or a process that has lost its I/O thread. What it runs,
and until when, stands in the ledger; nothing is asked of it. Its stacks are dumped, and it is killed with all that it
started.
"""

import logging
import math
import signal
import time
from collections.abc import Iterable
from typing import Final

from crew.worker.child import Child
from crew.worker.ledger import Ledger

logger = logging.getLogger(__name__)

DUMP_STACKS: Final = signal.SIGQUIT  # a process writes every thread's stack to stderr, also where Python cannot run
OVERDUE_AFTER: Final = 0.4  # seconds after limit and grace: a process that can act has acted by then
DUMP_WITHIN: Final = 0.2  # seconds for its stacks to be written, before it is killed


class Frozen:
    """Kills frozen processes, one step a look: overdue -> stacks -> killed.

    Args:
        grace: seconds between the interrupt of a task and the end of its process.
    """

    def __init__(self, ledger: Ledger, *, grace: float) -> None:
        self._ledger = ledger
        self._patience = grace + OVERDUE_AFTER

    def look(self, children: Iterable[Child]) -> None:
        """Look at what runs in all of them."""
        now = time.monotonic()
        for child in children:
            overdue = self._ledger.overdue(child.number, now - self._patience)
            if not overdue or child.overdue:
                child.suspects = []
            elif not child.suspects:
                child.suspects, child.suspected_at = overdue, now
                child.signal(DUMP_STACKS)
            elif now >= child.suspected_at + DUMP_WITHIN:
                self._kill(child, [key for key in overdue if key in child.suspects])

    def next_look(self, child: Child, now: float) -> float:
        """When there may be something to see: what has not begun yet is not overdue before the grace is over."""
        if child.overdue:
            return math.inf
        if child.suspects:
            return child.suspected_at + DUMP_WITHIN
        return min([now, *self._ledger.limits(child.number)]) + self._patience

    def _kill(self, child: Child, overdue: list[bytes]) -> None:
        """Where something else is overdue by now, it has a dump of its own first."""
        child.suspects, child.overdue = [], overdue
        if overdue:
            logger.error(
                "process %d is frozen: a task goes on %.1f s after its end. It is killed; its stacks are above",
                child.pid,
                self._patience + DUMP_WITHIN,
            )
            child.kill()

"""Worker processes that are frozen: something runs on in them after its limit and grace, which they had to end.

Or their I/O thread has not run for so long that the broker has given them up.

That is a task in C code that never lets another thread run, or a process that has lost its I/O thread. What it runs,
until when, and when its I/O thread ran last stands in the ledger; nothing is asked of it. Its stacks are dumped, and it
is killed with all that it started. Killed for what is overdue, that is not run again. Killed for its silence, all that
it ran has one crash more: nobody knows what of it was to blame.
"""

import logging
import math
import signal
import time
from collections.abc import Iterable
from typing import Final

from crew.worker.shared_state.shared_state import SharedState
from crew.worker.supervisor.child_process import ChildProcess

logger = logging.getLogger(__name__)

DUMP_STACKS: Final = signal.SIGQUIT  # a process writes every thread's stack to stderr, also where Python cannot run
OVERDUE_AFTER: Final = 0.4  # seconds after limit and grace: a process that can act has acted by then
DUMP_WITHIN: Final = 0.2  # seconds for its stacks to be written, before it is killed
BEAT_EVERY: Final = 1.0  # seconds between two beats of an I/O thread
WAKES_WITHIN: Final = 2 * BEAT_EVERY  # seconds for the beat of a process that was asleep as long as its whole host


class StallDetector:
    """Kills frozen processes, one step a look: overdue -> stacks -> killed; or silent -> stacks -> killed.

    Args:
        grace: seconds between the interrupt of a task and the end of its process.
        silence: seconds without a beat of its I/O thread after which a process is given up.
    """

    def __init__(self, shared_state: SharedState, *, grace: float, silence: float = math.inf) -> None:
        self._shared_state = shared_state
        self._patience = grace + OVERDUE_AFTER
        self._silence = silence

    def look(self, children: Iterable[ChildProcess]) -> None:
        """Look at what runs in all of them."""
        now = time.monotonic()
        for child in children:
            self._look_at_limits(child, now)
            self._look_at_beat(child, now)

    def next_look(self, child: ChildProcess, now: float) -> float:
        """When there may be something to see: what has not begun yet is not overdue before the grace is over."""
        if child.overdue:
            return math.inf
        if child.suspects:
            return child.suspected_at + DUMP_WITHIN
        next_beat = child.silent_at + WAKES_WITHIN if child.silent_at else self._given_up(child)
        return min(min([now, *self._shared_state.limits(child.number)]) + self._patience, next_beat)

    # --- overdue ----------------------------------------------------------------------------------------------------

    def _look_at_limits(self, child: ChildProcess, now: float) -> None:
        overdue = self._shared_state.overdue(child.number, now - self._patience)
        if not overdue or child.overdue:
            child.suspects = []
        elif not child.suspects:
            child.suspects, child.suspected_at = overdue, now
            child.signal(DUMP_STACKS)
        elif now >= child.suspected_at + DUMP_WITHIN:
            self._kill(child, [key for key in overdue if key in child.suspects])

    def _kill(self, child: ChildProcess, overdue: list[bytes]) -> None:
        """Where something else is overdue by now, it has a dump of its own first."""
        child.suspects, child.overdue = [], overdue
        if overdue:
            logger.error(
                "process %d is frozen: a task goes on %.1f s after its end. It is killed; its stacks are above",
                child.pid,
                self._patience + DUMP_WITHIN,
            )
            child.kill()

    # --- silent -----------------------------------------------------------------------------------------------------

    def _look_at_beat(self, child: ChildProcess, now: float) -> None:
        if now < self._given_up(child) or child.overdue:
            child.silent_at = 0.0
        elif not child.silent_at:
            child.silent_at = now
            child.signal(DUMP_STACKS)
        elif now >= child.silent_at + WAKES_WITHIN:
            child.silent_at = math.inf  # it is killed once
            logger.error(
                "process %d is frozen: its I/O thread has not run for %.1f s. It is killed; its stacks are above",
                child.pid,
                now - self._shared_state.last_beat(child.number),
            )
            child.kill()

    def _given_up(self, child: ChildProcess) -> float:
        """When its silence is too long (time.monotonic())."""
        return (self._shared_state.last_beat(child.number) or math.inf) + self._silence

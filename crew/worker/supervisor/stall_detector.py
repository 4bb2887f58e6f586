"""Stall detector: finds worker processes that no longer react, dumps their stacks and kills them.

A process is stalled in two cases:

- A task runs on after its limit and grace: it is in C code that never releases the GIL, so that the process cannot
  interrupt it. The process is killed, and the overdue calls are not retried.
- The I/O thread has not run for so long that the broker has closed its connection. The process is killed, and each call
  that it ran gets one more crash, as it is unknown which of them is to blame.

All of this is read from the shared state; the process itself is never asked. A kill ends the whole process group.
"""

import logging
import math
import time
from collections.abc import Iterable
from typing import Final

from crew.worker.shared_state.messages import DUMP_STACKS
from crew.worker.shared_state.shared_state import LIVENESS_INTERVAL, SharedState
from crew.worker.supervisor.child_process import ChildProcess

logger = logging.getLogger(__name__)

OVERDUE_AFTER: Final = 0.4  # seconds after limit and grace: a process that still reacts has ended the task by then
DUMP_WITHIN: Final = 0.2  # seconds for writing its stacks, before it is killed
WAKES_WITHIN: Final = 2 * LIVENESS_INTERVAL  # seconds for a process to wake, after its whole host was suspended


class StallDetector:
    """Kills stalled processes, one step per check: overdue or silent -> stacks dumped -> killed.

    Args:
        grace: seconds between the interrupt of a task and the end of its process.
        silence: seconds after which a process is stalled if its I/O thread has not run.
        wakes_within: seconds for a silent process to wake, after its whole host was suspended. Default 2 intervals of
            its liveness mark.
    """

    def __init__(
        self,
        shared_state: SharedState,
        *,
        grace: float,
        silence: float = math.inf,
        wakes_within: float = WAKES_WITHIN,
    ) -> None:
        self._shared_state = shared_state
        self._grace = grace + OVERDUE_AFTER
        self._silence = silence
        self._wakes_within = wakes_within

    def check(self, children: Iterable[ChildProcess]) -> None:
        """Check all `children`, and dump or kill those that are stalled."""
        now = time.monotonic()
        for child in children:
            self._check_limits(child, now)
            self._check_io_thread(child, now)

    def next_check(self, child: ChildProcess, now: float) -> float:
        """When `child` must be checked again (time.monotonic()); a call that starts later is overdue later still."""
        if child.overdue:
            return math.inf
        if child.suspects:
            return child.suspected_at + DUMP_WITHIN
        stall = child.stalled_at + self._wakes_within if child.stalled_at else self._stalled_from(child)
        return min(min([now, *self._shared_state.limits(child.number)]) + self._grace, stall)

    # --- a task runs on ---------------------------------------------------------------------------------------------

    def _check_limits(self, child: ChildProcess, now: float) -> None:
        overdue = self._shared_state.overdue(child.number, now - self._grace)
        if not overdue or child.overdue:
            child.suspects = []
        elif not child.suspects:
            child.suspects, child.suspected_at = overdue, now
            child.signal(DUMP_STACKS)
        elif now >= child.suspected_at + DUMP_WITHIN:
            self._kill(child, [key for key in overdue if key in child.suspects])

    def _kill(self, child: ChildProcess, overdue: list[bytes]) -> None:
        """Kill it for the calls in `overdue`; if these have ended by now, the process lives on."""
        child.suspects, child.overdue = [], overdue
        if overdue:
            logger.error(
                "worker process stalled, killing it: a task runs on %.1f s after its timeout (stacks are above) pid=%d",
                self._grace + DUMP_WITHIN,
                child.pid,
            )
            child.kill()

    # --- the I/O thread does not run --------------------------------------------------------------------------------

    def _check_io_thread(self, child: ChildProcess, now: float) -> None:
        if now < self._stalled_from(child) or child.overdue:
            child.stalled_at = 0.0
        elif not child.stalled_at:
            child.stalled_at = now
            child.signal(DUMP_STACKS)
        elif now >= child.stalled_at + self._wakes_within:
            child.stalled_at = math.inf  # it is killed once
            logger.error(
                "worker process stalled, killing it: its I/O thread has not run for %.1f s (stacks are above) pid=%d",
                now - self._shared_state.last_alive(child.number),
                child.pid,
            )
            child.kill()

    def _stalled_from(self, child: ChildProcess) -> float:
        """When its I/O thread will have been silent for too long (time.monotonic())."""
        return (self._shared_state.last_alive(child.number) or math.inf) + self._silence

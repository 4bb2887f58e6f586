"""Replacement of worker processes after a number of tasks (--max-tasks), or above a memory limit (--max-memory)."""

import itertools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

STAGGER: Final = 10  # the limits of processes differ by up to a tenth, so that they are not replaced all at once

_STATM: Final = Path("/proc/self/statm")


class Replacement:
    """Counts the tasks of one worker process and checks its memory.

    Args:
        max_tasks: tasks that it may start; None: no limit.
        max_memory: bytes of memory that it may have after a task; None: no limit.
        on_due: called with the reason when the process has to be replaced; maybe more than once, and in any thread.
    """

    def __init__(self, *, max_tasks: int | None, max_memory: int | None, on_due: Callable[[str], None]) -> None:
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._on_due = on_due
        self._started = itertools.count(1)

    def may_start(self) -> bool:
        """Count a task and return whether it may start; call this once per task, in any thread."""
        if self._max_tasks is None:
            return True
        number = next(self._started)
        if number == self._max_tasks:
            self._on_due(f"it has run {number} {'task' if number == 1 else 'tasks'}")
        return number <= self._max_tasks

    def check_memory(self) -> None:
        """Check the memory limit; call this after each task."""
        if self._max_memory is not None and (used := memory_used()) > self._max_memory:
            self._on_due(f"it has {used / 1e6:.0f} MB of memory, more than {self._max_memory / 1e6:.0f} MB")


def staggered(max_tasks: int | None, number: int, processes: int) -> int | None:
    """Limit of process `number` of `processes`: `max_tasks` for the first, up to a tenth less for the others."""
    return None if max_tasks is None else max_tasks - max_tasks // STAGGER * (number % processes) // processes


def memory_used() -> int:
    """Resident memory of this process in bytes; its maximum so far where /proc is missing (macOS)."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024

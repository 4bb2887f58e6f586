"""When a worker process is replaced by a new one: after so many tasks, or where it has too much memory."""

import itertools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

STAGGER: Final = 10  # a process has up to a tenth fewer tasks than another, so that not all are replaced at once

_STATM: Final = Path("/proc/self/statm")


class Replacement:
    """Counts the tasks of one worker process, and looks at its memory.

    Args:
        max_tasks: tasks that it may start; None: no bound.
        max_memory: bytes that it may have after a task; None: no bound.
        on_due: called with the reason when the process is to be replaced, maybe more than once; in any thread.
    """

    def __init__(self, *, max_tasks: int | None, max_memory: int | None, on_due: Callable[[str], None]) -> None:
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._on_due = on_due
        self._started = itertools.count(1)

    def may_start(self) -> bool:
        """Whether one more task may start; asked once for each, by any thread."""
        if self._max_tasks is None:
            return True
        number = next(self._started)
        if number == self._max_tasks:
            self._on_due(f"it has run {number} {'task' if number == 1 else 'tasks'}")
        return number <= self._max_tasks

    def look(self) -> None:
        """A task has ended: look at the memory."""
        if self._max_memory is not None and (used := memory_used()) > self._max_memory:
            self._on_due(f"it has {used / 1e6:.0f} MB of memory, more than {self._max_memory / 1e6:.0f} MB")


def staggered(max_tasks: int | None, number: int, processes: int) -> int | None:
    """The tasks that process `number` of `processes` may start: all `max_tasks` for the first, up to a tenth fewer."""
    return None if max_tasks is None else max_tasks - max_tasks // STAGGER * (number % processes) // processes


def memory_used() -> int:
    """Bytes of memory that this process has resident; where the system does not tell, the most that it ever had."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024

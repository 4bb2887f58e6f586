"""Executions that have not started, sorted by priority; within one priority, first come, first served.

One thread puts, any thread takes. Each entry of the heap has a token in a queue. Both are implemented in C, so this
needs no lock of its own, which an interrupt could leave locked.
"""

import collections
import heapq
import itertools
import queue
from collections.abc import Callable

from crew.worker.execution.execution import Execution


class Buffer:
    """Executions that wait for a free slot of an executor.

    Args:
        may_start: asked before each execution is taken. If it returns False, the execution stays until `withdraw`,
            unless its delivery is acknowledged: no other process would run it then.
    """

    def __init__(self, may_start: Callable[[], bool] | None = None) -> None:
        self._may_start = may_start
        self._refused: collections.deque[Execution] = collections.deque()  # they must not start here
        self._heap: list[tuple[int, int, Execution | None]] = []
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap) + len(self._refused)

    def put(self, execution: Execution) -> None:
        """Add an execution."""
        level = execution.delivery.properties.priority
        heapq.heappush(self._heap, (-level if isinstance(level, int) else 0, next(self._order), execution))
        self._tokens.put(None)

    def close(self) -> None:
        """Have one `take` return None once the buffer is empty."""
        heapq.heappush(self._heap, (1, next(self._order), None))  # behind all levels, which are 0 or more
        self._tokens.put(None)

    def take(self) -> Execution | None:
        """Remove and return the most urgent execution; waits for one. None after `close`."""
        while True:
            self._tokens.get()
            execution = heapq.heappop(self._heap)[2]
            if execution is None or self._may_start is None or self._is_taken(execution, self._may_start):
                return execution

    def take_nowait(self) -> Execution | None:
        """Remove and return the most urgent execution, or None."""
        while (execution := self._pop()) is not None:
            if self._may_start is None or self._is_taken(execution, self._may_start):
                return execution
        return None

    def withdraw(self) -> list[Execution]:
        """Remove and return all executions."""
        withdrawn = []
        while (execution := self._pop()) is not None:
            withdrawn.append(execution)
        while self._refused:
            withdrawn.append(self._refused.popleft())
        return withdrawn

    def _pop(self) -> Execution | None:
        try:
            self._tokens.get_nowait()
        except queue.Empty:
            return None
        return heapq.heappop(self._heap)[2]

    def _is_taken(self, execution: Execution, may_start: Callable[[], bool]) -> bool:
        if execution.result is not None or may_start() or execution.is_acknowledged:
            return True
        self._refused.append(execution)
        return False

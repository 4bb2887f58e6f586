"""Deliveries that have not started: sorted by priority, first come first served within one.

One thread puts, any thread takes. A token in a C-level queue stands for each entry of a C-level heap, so neither
needs a lock of ours that an interrupt could leave held.
"""

import collections
import heapq
import itertools
import queue
from collections.abc import Callable

from crew.worker.execution.execution import Execution


class Buffer:
    """Executions on their way to a lane.

    Args:
        may_start: asked for each that would be taken; where it says False, the execution stays until `withdraw`. One
            whose delivery has ended is taken at any rate: no other process would run it.
    """

    def __init__(self, may_start: Callable[[], bool] | None = None) -> None:
        self._may_start = may_start
        self._kept: collections.deque[Execution] = collections.deque()  # those that may not start here
        self._heap: list[tuple[int, int, Execution | None]] = []
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap) + len(self._kept)

    def put(self, execution: Execution) -> None:
        """Add an execution."""
        level = execution.delivery.properties.priority
        self._push(level if isinstance(level, int) else 0, execution)

    def close(self) -> None:
        """Let one `take` that finds nothing else return None."""
        self._push(-1, None)

    def take(self) -> Execution | None:
        """The most urgent one, as soon as there is one; None after `close`."""
        while True:
            self._tokens.get()
            execution = heapq.heappop(self._heap)[2]
            if execution is None or self._is_taken(execution):
                return execution

    def take_nowait(self) -> Execution | None:
        """The most urgent one, or None."""
        while (execution := self._pop()) is not None:
            if self._is_taken(execution):
                return execution
        return None

    def withdraw(self) -> list[Execution]:
        """All that have not started; they are not here any longer."""
        withdrawn = []
        while (execution := self._pop()) is not None:
            withdrawn.append(execution)
        while self._kept:
            withdrawn.append(self._kept.popleft())
        return withdrawn

    def _pop(self) -> Execution | None:
        try:
            self._tokens.get_nowait()
        except queue.Empty:
            return None
        return heapq.heappop(self._heap)[2]

    def _is_taken(self, execution: Execution) -> bool:
        if self._may_start is None or execution.ended is not None or self._may_start() or execution.is_acked:
            return True
        self._kept.append(execution)
        return False

    def _push(self, level: int, execution: Execution | None) -> None:
        heapq.heappush(self._heap, (-level, next(self._order), execution))
        self._tokens.put(None)

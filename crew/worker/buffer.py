"""Deliveries that have not started: sorted by priority, first come first served within one.

One thread puts, any thread takes. A token in a C-level queue stands for each entry of a C-level heap, so neither
needs a lock of ours that an interrupt could leave held.
"""

import heapq
import itertools
import queue

from crew.worker.execution import Execution


class Buffer:
    """Executions on their way to a lane."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Execution | None]] = []
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, execution: Execution) -> None:
        """Add an execution."""
        level = execution.delivery.properties.priority
        self._push(level if isinstance(level, int) else 0, execution)

    def close(self) -> None:
        """Let one `take` that finds nothing else return None."""
        self._push(-1, None)

    def take(self) -> Execution | None:
        """The most urgent one, as soon as there is one; None after `close`."""
        self._tokens.get()
        return heapq.heappop(self._heap)[2]

    def take_nowait(self) -> Execution | None:
        """The most urgent one, or None."""
        try:
            self._tokens.get_nowait()
        except queue.Empty:
            return None
        return heapq.heappop(self._heap)[2]

    def withdraw(self) -> list[Execution]:
        """All that have not started; they are not here any longer."""
        withdrawn = []
        while (execution := self.take_nowait()) is not None:
            withdrawn.append(execution)
        return withdrawn

    def _push(self, level: int, execution: Execution | None) -> None:
        heapq.heappush(self._heap, (-level, next(self._order), execution))
        self._tokens.put(None)

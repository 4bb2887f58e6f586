"""Correlation id -> waiting call: bounded, each settled exactly once, each on time.

One timer of the loop serves all calls. Entries of settled calls stay in the heap until their time, or until they are
most of it.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from crew.client.calling.byte_budget import ByteBudget
from crew.client.calling.call import PendingCall
from crew.errors import DuplicateCallId, Overloaded
from crew.protocol.message import Headers

MAX_BYTES: Final = 256 * 1024 * 1024  # 16 of the largest messages, and a quarter of a process that has 1 GiB
SWEEP_ABOVE: Final = 1_000  # dead entries that the heap may hold beside the living

_NOBODY: Final = (-1, None)


class PendingCalls:
    """The calls of one client that have not ended.

    Args:
        limit: how many there may be.
        on_due: told each call whose time has come; it settles it.
        max_bytes: bodies of those that the broker has not taken yet.
    """

    def __init__(self, limit: int, on_due: Callable[[PendingCall[Any]], None], *, max_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._budget = ByteBudget(max_bytes)
        self._on_due = on_due
        self._calls: dict[str, tuple[int, PendingCall[Any]]] = {}  # id -> number, call
        self._due: list[tuple[float, int, str]] = []  # time, number, id: no call, so that none is kept for its time
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall[Any]]:
        return iter([call for _, call in self._calls.values()])

    def __repr__(self) -> str:
        return f"<PendingCalls: {len(self._calls)} of at most {self._limit}>"

    @property
    def unconfirmed_bytes(self) -> int:
        """Bytes of the bodies that the broker has not taken yet."""
        return self._budget.taken

    def add(self, call: PendingCall[Any], due_in: float) -> None:
        """Wait for the answer to `call`, for `due_in` seconds.

        Raises:
            DuplicateCallId: a call with this id waits already.
            Overloaded: too many wait already, or too many bytes for the broker.
        """
        if call.id in self._calls:
            raise DuplicateCallId(f"a call with the id {call.id!r} is still in flight", task=call.task, id=call.id)
        if len(self._calls) >= self._limit:
            raise Overloaded(f"{self._limit} calls are waiting already", task=call.task, id=call.id)
        self._budget.take(call)
        number = next(self._numbers)
        self._calls[call.id] = number, call
        loop = asyncio.get_running_loop()
        when = loop.time() + due_in
        heapq.heappush(self._due, (when, number, call.id))
        if self._timer is None or when < self._timer.when():
            self._arm(loop)

    def get(self, id: str) -> PendingCall[Any] | None:
        """The call that waits under `id`."""
        _, call = self._calls.get(id, _NOBODY)
        return call

    def settle(self, id: str, answer: Any, headers: Headers | None = None) -> bool:
        """End a call with a value or an exception; False where none waits: a late or second answer."""
        _, call = self._calls.pop(id, _NOBODY)
        if call is None:
            return False
        self._budget.give_back(call)
        self._sweep()
        return call.settle(answer, headers)

    def forget(self, call: PendingCall[Any]) -> None:
        """Wait for `call` no longer."""
        if self.get(call.id) is call:
            del self._calls[call.id]
            self._budget.give_back(call)
            self._sweep()

    def confirm(self, call: PendingCall[Any]) -> None:
        """The broker has `call`: its body is not kept here."""
        self._budget.give_back(call)
        call.confirm()

    def close(self) -> None:
        """Let the timer go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close()
        if self._due:
            self._timer = loop.call_at(self._due[0][0], self._on_timer)

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() + 0.001  # the loop's own clock resolution: a timer may fire that much early
        while self._due and self._due[0][0] <= now:
            _, number, id = heapq.heappop(self._due)
            call = self.get(id)
            if call is not None and self._waits(number, id):
                self._on_due(call)
        self._arm(loop)

    def _waits(self, number: int, id: str) -> bool:
        return self._calls.get(id, _NOBODY)[0] == number  # another call may have its id by now

    def _sweep(self) -> None:
        """Let go of calls that have ended, once they are most of the heap."""
        if len(self._due) > 2 * len(self._calls) + SWEEP_ABOVE:
            self._due = [entry for entry in self._due if self._waits(entry[1], entry[2])]
            heapq.heapify(self._due)


def check_limit(name: str, value: object) -> int:
    """Return `value`, an int of at least 1; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, not {value!r}")
    return value

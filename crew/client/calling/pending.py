"""The pending calls of a client, by correlation id: limited in number, each settled once and by its deadline.

One timer of the event loop serves all calls. The heap of deadlines keeps the entries of settled calls until their
deadline, or until they are the larger part of it.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from crew.client.calling.byte_budget import ByteBudget
from crew.client.calling.call import PendingCall
from crew.errors import DuplicateCallId, Overloaded
from crew.protocol.message import Body, Headers

MAX_BYTES: Final = 256 * 1024 * 1024  # 16 messages of the maximum size; a quarter of a process with 1 GiB
SWEEP_ABOVE: Final = 1_000  # entries of settled calls that the heap may hold in any case

_NOT_FOUND: Final = (-1, None)


class PendingCalls:
    """The pending calls of one client.

    Args:
        limit: maximum number of calls.
        on_due: called with each call at its deadline; settles it.
        max_bytes: maximum size of the bodies that the broker has not confirmed yet.
    """

    def __init__(self, limit: int, on_due: Callable[[PendingCall[Any]], None], *, max_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._budget = ByteBudget(max_bytes)
        self._on_due = on_due
        self._calls: dict[str, tuple[int, PendingCall[Any]]] = {}  # id -> number, call
        self._due: list[tuple[float, int, str]] = []  # time, number, id; not the call, which would stay in memory
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
        """Bytes of the bodies that the broker has not confirmed yet."""
        return self._budget.taken

    def add(self, call: PendingCall[Any], due_in: float) -> None:
        """Add a call, whose deadline is in `due_in` seconds.

        Raises:
            DuplicateCallId: another call with this id is pending.
            Overloaded: too many calls are pending, or too many bytes wait for the broker.
        """
        if call.id in self._calls:
            text = f"another call with the id {call.id!r} is pending: choose another id"
            raise DuplicateCallId(text, task=call.task, id=call.id)
        if len(self._calls) >= self._limit:
            text = f"{self._limit} calls are pending, the maximum of this client: wait, or raise max_pending"
            raise Overloaded(text, task=call.task, id=call.id)
        self._budget.take(call)
        number = next(self._numbers)
        self._calls[call.id] = number, call
        loop = asyncio.get_running_loop()
        when = loop.time() + due_in
        heapq.heappush(self._due, (when, number, call.id))
        if self._timer is None or when < self._timer.when():
            self._arm(loop)

    def get(self, id: str) -> PendingCall[Any] | None:
        """The pending call with this id."""
        _, call = self._calls.get(id, _NOT_FOUND)
        return call

    def settle(self, id: str, answer: Any, headers: Headers | None = None) -> bool:
        """End a call with a value or an exception; False if it is not pending: the reply is late or a second one."""
        _, call = self._calls.pop(id, _NOT_FOUND)
        if call is None:
            return False
        self._budget.give_back(call)
        self._sweep()
        return call.settle(answer, headers)

    def forget(self, call: PendingCall[Any]) -> None:
        """Remove `call` without settling it."""
        if self.get(call.id) is call:
            del self._calls[call.id]
            self._budget.give_back(call)
            self._sweep()

    def set_body(self, call: PendingCall[Any], body: Body) -> None:
        """Replace the body of `call` by a smaller one."""
        self._budget.give_back(call)
        call.message = msgspec.structs.replace(call.message, body=body)
        self._budget.take(call)

    def confirm(self, call: PendingCall[Any]) -> None:
        """Note that the broker has `call`, and drop its body."""
        self._budget.give_back(call)
        call.confirm()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close()
        if self._due:
            self._timer = loop.call_at(self._due[0][0], self._on_timer)

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time() + 0.001  # the clock resolution of the loop: a timer may fire that much early
        while self._due and self._due[0][0] <= now:
            _, number, id = heapq.heappop(self._due)
            call = self.get(id)
            if call is not None and self._is_pending(number, id):
                self._on_due(call)
        self._arm(loop)

    def _is_pending(self, number: int, id: str) -> bool:
        return self._calls.get(id, _NOT_FOUND)[0] == number  # another call may have the id by now

    def _sweep(self) -> None:
        """Remove the entries of settled calls once they are the larger part of the heap."""
        if len(self._due) > 2 * len(self._calls) + SWEEP_ABOVE:
            self._due = [entry for entry in self._due if self._is_pending(entry[1], entry[2])]
            heapq.heapify(self._due)


def check_limit(name: str, value: object) -> int:
    """Return `value`, an int of at least 1; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, not {value!r}")
    return value

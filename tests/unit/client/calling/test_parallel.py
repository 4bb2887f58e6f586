"""Parallel calls and their results."""

import asyncio
from typing import Any, cast

import pytest

from crew.client.calling.call import PendingCall
from crew.client.calling.parallel import Parallel
from crew.errors import Canceled, TaskFailed
from tests.support.pending_calls import a_call


class Caller:
    """A fake Client: the test settles its calls."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, dict[str, Any]]] = []
        self.calls: list[PendingCall[Any]] = []

    def call(self, task: str, data: Any = None, **options: Any) -> PendingCall[Any]:
        if task == "":
            raise ValueError("task must have 1 to 244 bytes")
        self.made.append((task, data, options))
        self.calls.append(a_call(task))
        return self.calls[-1]


def parallel() -> tuple[Parallel, Caller]:
    """A Parallel, and its client."""
    caller = Caller()
    return Parallel(cast(Any, caller.call)), caller


@pytest.mark.gen_test
async def test_results_come_in_the_order_of_the_calls() -> None:
    calls, caller = parallel()
    with calls:
        for name in ("a", "b", "c"):
            calls.call(name)
    for index in (2, 0, 1):
        caller.calls[index].settle(index)
    assert await calls.result() == [0, 1, 2]


@pytest.mark.gen_test
async def test_the_result_waits_for_the_last_call() -> None:
    calls, caller = parallel()
    calls.call("a")
    calls.call("b")
    result = asyncio.ensure_future(calls.result())
    caller.calls[1].settle("b")
    await asyncio.sleep(0)
    assert not result.done()
    caller.calls[0].settle("a")
    a, b = await result
    assert (a, b) == ("a", "b")


@pytest.mark.gen_test
async def test_a_failure_is_a_value_and_does_not_affect_the_others() -> None:
    calls, caller = parallel()
    for name in ("a", "b", "c"):
        calls.call(name)
    failure = TaskFailed("KeyError")
    caller.calls[0].settle(failure)
    caller.calls[1].cancel()
    caller.calls[2].settle("c")
    first, second, third = await calls.result()
    assert first is failure
    assert isinstance(second, Canceled)
    assert third == "c"


@pytest.mark.gen_test
async def test_without_calls_the_result_is_empty() -> None:
    calls, _ = parallel()
    assert await calls.result() == []
    assert len(calls) == 0


def test_a_call_is_made_as_by_the_client_itself() -> None:
    calls, caller = parallel()
    call = calls.call("a", {"x": 1}, priority=5, expiration=3)
    assert call is caller.calls[0]
    assert caller.made == [("a", {"x": 1}, {"priority": 5, "expiration": 3})]


def test_an_error_in_the_block_cancels_the_calls_before_it() -> None:
    calls, caller = parallel()
    with pytest.raises(ValueError, match="task must"), calls:
        calls.call("a")
        calls.call("")
    assert "Canceled" in repr(caller.calls[0])


@pytest.mark.gen_test
async def test_canceling_the_result_cancels_every_call() -> None:
    calls, caller = parallel()
    for name in ("a", "b"):
        calls.call(name)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(calls.result(), 0.01)
    assert all(call.done() for call in caller.calls)

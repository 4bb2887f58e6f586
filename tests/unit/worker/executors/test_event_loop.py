"""The event loop executor: it runs many coroutines at a time, and detects a blocked loop."""

import asyncio
import threading
import time
from typing import Any

import pytest

from crew.protocol.message import Outcome
from crew.worker.context import context
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from tests.support.deliveries import an_execution, outcome_of, value_of
from tests.support.executors import Coroutines, coroutines, punctual
from tests.support.waiting import eventually

BLOCKED_AFTER = 0.05  # seconds


class Waiter:
    """A coroutine function that awaits for ever, or until `go`, and records its cancellations.

    Attributes:
        began: how many run, or ran.
        cancelled: messages and time.monotonic() of the cancellations.
    """

    def __init__(self, *, swallow: int = 0, shielded: bool = False) -> None:
        self._swallow = swallow
        self._shielded = shielded
        self.go = False
        self.began = 0
        self.cancelled: list[tuple[str, float]] = []
        self.done_in_shield = False

    async def __call__(self, data: Any) -> Any:
        self.began += 1
        while True:
            try:
                return await self._awaits_here(data)
            except asyncio.CancelledError as error:
                self.cancelled.append((str(error), time.monotonic()))
                if len(self.cancelled) > self._swallow:
                    raise

    async def _awaits_here(self, data: Any) -> Any:
        if self._shielded:
            with context.shield():
                await self._until_go()
                self.done_in_shield = True
        await self._until_go()
        return data

    async def _until_go(self) -> None:
        while not self.go:
            await asyncio.sleep(0.002)

    def reasons(self) -> list[str]:
        """The reason of each cancellation."""
        return [reason for reason, _ in self.cancelled]


class Blocker:
    """A coroutine function that blocks its loop until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = False
        self.errors: list[BaseException] = []

    async def __call__(self, data: Any) -> None:
        self.began = True
        try:
            self.blocks_here()
        except BaseException as error:
            self.errors.append(error)
            raise

    def blocks_here(self) -> None:
        """Block until `go` is set."""
        self.go.wait(10)


def blocked(runner: Coroutines, execution: Execution) -> None:
    """Wait until the executor has detected that `execution` blocks the loop."""
    runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
    eventually(runner.executor._is_blocked)


# --- many at a time --------------------------------------------------------------------------------------------------


def test_as_many_coroutines_run_at_a_time_as_there_are_slots() -> None:
    task = Waiter()
    with coroutines(50) as runner:
        executions = [an_execution(task, number) for number in range(52)]
        runner.put(*executions)
        eventually(lambda: task.began == 50)
        assert runner.held.running() == runner.started == executions[:50]
        assert len(runner.buffer) == 2
        task.go = True
        eventually(lambda: not runner.settle())
        assert [value_of(execution) for execution in executions] == list(range(52))


def test_each_coroutine_sees_its_own_execution() -> None:
    async def look(data: Any) -> list[Any]:
        context.headers["number"] = data
        await asyncio.sleep(0.01)
        return [context.id, context.headers["number"]]

    with coroutines() as runner:
        executions = [an_execution(look, number) for number in range(5)]
        runner.put(*executions)
        runner.ends(*executions)
        assert [value_of(one) for one in executions] == [[one.call.id, n] for n, one in enumerate(executions)]


def test_a_coroutine_that_raises_fails_its_own_call() -> None:
    async def boom(data: Any) -> None:
        raise KeyError("x")

    with coroutines() as runner:
        failing, fine = an_execution(boom), an_execution(Waiter())
        fine.task.function.go = True  # type: ignore[attr-defined]
        runner.put(failing, fine)
        runner.ends(failing, fine)
        assert [outcome_of(failing), outcome_of(fine)] == [Outcome.RAISED, Outcome.RETURNED]


@pytest.mark.parametrize("status", [0, "bye"])
def test_a_coroutine_that_calls_sys_exit_does_not_end_the_loop(status: Any) -> None:
    async def leave(data: Any) -> None:
        raise SystemExit(status)

    async def returns(data: Any) -> str:
        return "value"

    with coroutines() as runner:
        leaving, next_one = an_execution(leave), an_execution(returns)
        runner.put(leaving)
        runner.ends(leaving)
        runner.put(next_one)
        runner.ends(next_one)
        assert [outcome_of(leaving), value_of(next_one)] == [Outcome.RAISED, "value"]


def test_a_released_slot_is_free() -> None:
    task = Waiter()
    task.go = True
    with coroutines(1) as runner:
        first, second = an_execution(task), an_execution(task)
        runner.put(first, second)
        runner.ends(first)
        assert runner.held.running() == [first]
        runner.held.remove(first)
        runner.executor.fill()
        runner.ends(second)


# --- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", InterruptReason)
def test_an_awaiting_coroutine_is_interrupted_at_once(reason: InterruptReason) -> None:
    def attempt() -> float:
        task = Waiter()
        with coroutines() as runner:
            execution = an_execution(task)
            runner.put(execution)
            eventually(lambda: task.began)
            begin = time.monotonic()
            runner.executor.interrupt(execution, reason)
            runner.ends(execution)
        assert task.reasons() == [reason]
        assert execution.reason is reason
        return task.cancelled[0][1] - begin

    punctual(attempt)


def test_other_executions_are_not_interrupted() -> None:
    victim, bystander = Waiter(), Waiter()
    with coroutines() as runner:
        first, second = an_execution(victim), an_execution(bystander, "value")
        runner.put(first, second)
        eventually(lambda: victim.began and bystander.began)
        runner.executor.interrupt(first, InterruptReason.CANCELED)
        runner.ends(first)
        bystander.go = True
        runner.ends(second)
        assert value_of(second) == "value"
        assert bystander.cancelled == []


def test_a_coroutine_that_swallows_its_cancellation_is_canceled_again() -> None:
    task = Waiter(swallow=1)
    with coroutines() as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)

        def cancelled_twice() -> bool:
            runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
            return len(task.cancelled) == 2

        eventually(cancelled_twice)
        runner.ends(execution)
        assert outcome_of(execution) is Outcome.TIMED_OUT


def test_a_coroutine_that_returns_a_value_after_its_interrupt_has_timed_out() -> None:
    task = Waiter(swallow=1)
    with coroutines() as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
        task.go = True
        runner.ends(execution)
        assert outcome_of(execution) is Outcome.TIMED_OUT


def test_an_interrupt_after_the_end_changes_nothing() -> None:
    task = Waiter()
    task.go = True
    with coroutines() as runner:
        execution = an_execution(task, "value")
        runner.put(execution)
        runner.ends(execution)
        runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
        assert value_of(execution) == "value"
        assert not execution.is_interrupted


def test_an_interrupt_that_is_sent_again_still_waits_for_the_end_of_a_shield() -> None:
    task = Waiter(shielded=True)
    with coroutines() as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        for _ in range(2):
            runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
        assert outcome_of(execution) is Outcome.TIMED_OUT, "its caller need not wait"
        eventually(lambda: execution.interruption.is_pending)
        assert not task.cancelled
        task.go = True
        runner.ends(execution)
        assert task.done_in_shield
        assert task.reasons() == ["timeout"]


# --- never started ---------------------------------------------------------------------------------------------------


def test_an_execution_with_a_result_in_the_buffer_is_not_run() -> None:
    task = Waiter()
    with coroutines() as runner:
        execution = an_execution(task)
        execution.interrupt(InterruptReason.CANCELED)
        runner.put(execution)
        runner.ends(execution)
        assert runner.started == runner.held.running() == []
        assert not task.began


def test_an_execution_that_is_canceled_while_its_start_is_announced_is_not_run() -> None:
    task = Waiter()
    with coroutines(holds=True) as runner:
        execution = an_execution(task)
        runner.put(execution)
        assert runner.started == [execution]
        runner.executor.interrupt(execution, InterruptReason.CANCELED)
        for start in runner.unsent:
            start()
        runner.ends(execution)
        assert runner.executor.has_left(execution)
        assert not task.began
        assert outcome_of(execution) is Outcome.CANCELED


# --- a blocked loop --------------------------------------------------------------------------------------------------


def test_a_blocked_loop_is_detected_and_its_execution_cannot_be_abandoned() -> None:
    task = Blocker()
    with coroutines(blocked_after=BLOCKED_AFTER) as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        blocked(runner, execution)
        assert "in blocks_here" in runner.executor.stack(execution)
        assert runner.executor.can_abandon(execution) is False
        task.go.set()
        runner.ends(execution)


def test_a_loop_that_reacts_is_not_blocked() -> None:
    task = Waiter(swallow=100)
    with coroutines(blocked_after=BLOCKED_AFTER) as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
        until = time.monotonic() + 2 * BLOCKED_AFTER
        eventually(lambda: time.monotonic() > until)
        assert not runner.executor._is_blocked()
        assert runner.executor.can_abandon(execution) is True
        task.go = True
        runner.ends(execution)


def test_a_loop_that_reacts_again_is_no_longer_blocked() -> None:
    task = Blocker()
    with coroutines(blocked_after=BLOCKED_AFTER) as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        blocked(runner, execution)
        task.go.set()
        eventually(lambda: not runner.executor._is_blocked())
        runner.ends(execution)


def test_an_abandoned_execution_is_counted_until_it_ends_and_its_slot_is_free() -> None:
    task, next_task = Waiter(swallow=100), Waiter()
    next_task.go = True
    with coroutines(1) as runner:
        execution, next_one = an_execution(task), an_execution(next_task)
        runner.put(execution, next_one)
        eventually(lambda: task.began)
        assert runner.executor.can_abandon(execution) is True
        runner.held.abandon(execution)
        assert not runner.executor.has_left(execution)
        runner.executor.fill()
        runner.ends(next_one)
        task.go = True
        runner.ends(execution)
        assert runner.executor.has_left(execution)


def test_an_execution_that_is_abandoned_at_its_interrupt_is_still_canceled() -> None:
    """With a grace of 0 the two happen at the same time."""
    task = Waiter()
    with coroutines(1) as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        runner.executor._loop.call_soon_threadsafe(time.sleep, 0.05)  # delays its cancellation
        runner.executor.interrupt(execution, InterruptReason.TIMEOUT)
        runner.held.abandon(execution)
        eventually(lambda: task.cancelled)
        assert task.reasons() == ["timeout"]
        eventually(lambda: execution.has_ended)
        assert runner.executor.has_left(execution)


def test_the_stack_shows_where_a_coroutine_awaits() -> None:
    task = Waiter()
    with coroutines() as runner:
        execution = an_execution(task)
        runner.put(execution)
        eventually(lambda: task.began)
        assert "in _awaits_here" in runner.executor.stack(execution)
        task.go = True
        runner.ends(execution)
        assert runner.executor.stack(execution) == ""

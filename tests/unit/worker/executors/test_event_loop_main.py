"""The event loop executor in the main thread, where a signal interrupts a coroutine that blocks the loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew.protocol.message import Outcome
from crew.worker.context import context
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from tests.support.deliveries import an_execution, outcome_of
from tests.support.executors import Coroutines, endless_loop, punctual
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("signals")


class Blocker:
    """A coroutine function that blocks its loop for ever.

    Attributes:
        errors: what ended it, and time.monotonic() of that.
    """

    def __init__(self, block: Callable[[], object] = lambda: time.sleep(60)) -> None:
        self._block = block
        self.began = False
        self.errors: list[tuple[BaseException, float]] = []

    async def __call__(self, data: Any) -> None:
        try:
            self.began = True  # inside the try: the interrupt may follow at once
            self._block()
        except BaseException as error:
            self.errors.append((error, time.monotonic()))
            raise

    def ended_by(self) -> list[str]:
        """The exception that ended it."""
        return [repr(error) for error, _ in self.errors]


class Neighbour:
    """A coroutine function that awaits until `go` is set."""

    def __init__(self) -> None:
        self.go = False
        self.began = False

    async def __call__(self, data: Any) -> str:
        self.began = True
        while not self.go:
            await asyncio.sleep(0.002)
        return "value"


def beside(io: Callable[[Coroutines], None]) -> None:
    """Run an executor in the main thread, and `io` in another one, as the I/O thread."""
    runner = Coroutines()

    def run() -> None:
        try:
            eventually(runner.executor._loop.is_running)
            io(runner)
        finally:
            runner.executor.stop()

    thread = threading.Thread(target=run)
    thread.start()
    runner.executor.serve()
    thread.join(5)
    runner.executor._loop.close()


@pytest.mark.parametrize("what", ["sleep", "an endless loop"])
def test_a_coroutine_that_blocks_the_loop_is_interrupted_at_once(what: str) -> None:
    def attempt() -> float:
        task = Blocker(endless_loop if what == "an endless loop" else lambda: time.sleep(60))
        execution = an_execution(task)
        begin: list[float] = []

        def io(runner: Coroutines) -> None:
            runner.put(execution)
            eventually(lambda: task.began)
            begin.append(time.monotonic())
            runner.executor.interrupt(execution, InterruptReason.CANCELED)
            runner.ends(execution)

        beside(io)
        assert task.ended_by() == ["CancelledError('canceled')"]
        assert outcome_of(execution) is Outcome.CANCELED
        return task.errors[0][1] - begin[0]

    punctual(attempt)


def test_a_coroutine_that_blocks_the_loop_is_interrupted_at_its_limit_though_the_io_thread_sleeps() -> None:
    def attempt() -> float:
        task = Blocker()
        execution = an_execution(task, timeout=0.05)

        def io(runner: Coroutines) -> None:
            runner.put(execution)
            runner.ends(execution)

        beside(io)
        assert task.ended_by() == ["CancelledError('timeout')"]
        assert outcome_of(execution) is Outcome.TIMED_OUT
        assert execution.limit is not None
        return task.errors[0][1] - execution.limit

    punctual(attempt)


def test_a_coroutine_that_awaits_meanwhile_is_not_interrupted() -> None:
    task, neighbour = Blocker(), Neighbour()
    execution, waits = an_execution(task, timeout=0.05), an_execution(neighbour)

    def io(runner: Coroutines) -> None:
        runner.put(waits)
        eventually(lambda: neighbour.began)
        runner.put(execution)
        runner.ends(execution)
        neighbour.go = True
        runner.ends(waits)

    beside(io)
    assert [outcome_of(execution), outcome_of(waits)] == [Outcome.TIMED_OUT, Outcome.RETURNED]


def test_the_limit_of_one_coroutine_does_not_interrupt_another_that_blocks_the_loop() -> None:
    task, neighbour = Blocker(lambda: time.sleep(0.1)), Neighbour()
    blocks, waits = an_execution(task), an_execution(neighbour, timeout=0.05)

    def io(runner: Coroutines) -> None:
        runner.put(waits)
        eventually(lambda: neighbour.began)
        runner.put(blocks)
        eventually(lambda: waits.limit is not None and time.monotonic() > waits.limit)
        runner.executor.interrupt(waits, InterruptReason.TIMEOUT)
        runner.ends(blocks, waits)

    beside(io)
    assert [outcome_of(blocks), outcome_of(waits)] == [Outcome.RETURNED, Outcome.TIMED_OUT]
    assert task.errors == []


def test_an_asyncio_task_of_a_coroutine_is_interrupted_if_it_blocks_the_loop() -> None:
    inner = Blocker()
    ended: list[str] = []

    async def task(data: Any) -> None:
        try:
            await asyncio.gather(inner(data))
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    def io(runner: Coroutines) -> None:
        runner.put(execution)
        eventually(lambda: inner.began)
        runner.executor.interrupt(execution, InterruptReason.CANCELED)
        runner.ends(execution)

    execution = an_execution(task)
    beside(io)
    assert len(inner.errors) == 1
    assert ended == ["cancelled"]
    assert outcome_of(execution) is Outcome.CANCELED


def test_the_interrupt_signal_waits_for_the_end_of_a_shield() -> None:
    steps: list[str] = []

    def io(runner: Coroutines) -> None:
        runner.put(execution)
        eventually(lambda: steps)
        runner.executor.interrupt(execution, InterruptReason.CANCELED)
        runner.ends(execution)

    async def task(data: Any) -> None:
        with context.shield():
            steps.append("blocks")
            eventually(lambda: execution.interruption.is_pending)
            steps.append("unbroken")
        steps.append("not reached")

    execution: Execution = an_execution(task)
    beside(io)
    assert steps == ["blocks", "unbroken"]
    assert outcome_of(execution) is Outcome.CANCELED

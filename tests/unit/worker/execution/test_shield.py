"""`with context.shield():` no interrupt is raised inside it, in any executor."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew.errors import Interrupt
from crew.protocol.message import Outcome
from crew.worker.context import context
from crew.worker.execution.async_exception import raise_in
from crew.worker.execution.execution import Execution, current_execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.executors import thread_pool
from tests.support.deliveries import an_execution, outcome_of, run
from tests.support.executors import Main, Threads, coroutines
from tests.support.waiting import eventually

EXECUTORS = ["the main thread", "a thread", "a coroutine"]
in_each_executor = pytest.mark.parametrize("where", EXECUTORS)
pytestmark = pytest.mark.usefixtures("signals")


class Stage:
    """Runs a function as a task, and interrupts it when the function calls `interrupted`.

    Attributes:
        notes: texts that the task has noted.
        execution: the one that runs.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._is_ready = False
        self._sent = 0
        self.notes: list[str] = []

    def interrupted(self, times: int = 1) -> None:
        """Called in the task: have it interrupted now; returns if a shield delays the interrupt."""
        self._is_ready = True
        until = time.monotonic() + 5
        interruption = self.execution.interruption
        while self._sent < times or not (interruption.is_pending or interruption.shields == 0):
            assert time.monotonic() < until
            time.sleep(0.001)

    async def interrupted_where_it_awaits(self) -> None:
        """As `interrupted`, for a coroutine."""
        self._is_ready = True
        interruption = self.execution.interruption
        while self._sent < 1 or not (interruption.is_pending or interruption.shields == 0):
            await asyncio.sleep(0.001)

    def run(self, body: Callable[[], object], *, times: int = 1) -> Execution:
        """Run `body`, and interrupt it `times` times."""
        self.execution = an_execution(self._task(body))
        match self._where:
            case "the main thread":
                main = Main()
                main.run_beside(lambda: self._interrupt(main.executor.interrupt, times), self.execution)
            case "a thread":
                threads = Threads(1)
                threads.put(self.execution)
                self._interrupt(threads.executor.interrupt, times)
                eventually(lambda: threads.executor.has_left(self.execution))
            case _:
                with coroutines() as executor:
                    executor.put(self.execution)
                    self._interrupt(executor.executor.interrupt, times)
                    executor.ends(self.execution)
        assert outcome_of(self.execution) is Outcome.CANCELED
        return self.execution

    def _task(self, body: Callable[[], object]) -> Callable[[Any], Any]:
        if self._where != "a coroutine":
            return lambda data: body()

        async def task(data: Any) -> None:
            found = body()
            if asyncio.iscoroutine(found):
                await found

        return task

    def _interrupt(self, interrupt: Callable[[Execution, InterruptReason], None], times: int) -> None:
        eventually(lambda: self._is_ready or self.execution.has_ended)
        for _ in range(times):
            interrupt(self.execution, InterruptReason.CANCELED)
            self._sent += 1


@pytest.fixture
def stage(where: str) -> Stage:
    """A Stage for a task in that executor."""
    return Stage(where)


@pytest.mark.parametrize("where", EXECUTORS[:2])
def test_an_interrupt_inside_a_shield_is_raised_once_at_its_end(stage: Stage) -> None:
    def body() -> None:
        try:
            with context.shield():
                stage.interrupted()
                stage.notes.append("unbroken")
            stage.notes.append("not reached")
        except Interrupt as interrupt:
            stage.notes.append(interrupt.reason)
        time.sleep(0.01)
        stage.notes.append("cleaned up")

    stage.run(body)
    assert stage.notes == ["unbroken", "canceled", "cleaned up"]


@pytest.mark.parametrize("where", EXECUTORS[2:])
def test_an_interrupt_inside_a_shield_of_a_coroutine_is_raised_once_at_its_end(stage: Stage) -> None:
    async def body() -> None:
        try:
            with context.shield():
                await stage.interrupted_where_it_awaits()
                await asyncio.sleep(0.005)
                stage.notes.append("unbroken")
            stage.notes.append("not reached")
        except asyncio.CancelledError as error:
            stage.notes.append(str(error))
        await asyncio.sleep(0.01)
        stage.notes.append("cleaned up")

    stage.run(body)
    assert stage.notes == ["unbroken", "canceled", "cleaned up"]


@pytest.mark.parametrize("where", EXECUTORS[:2])
def test_an_interrupt_that_is_sent_again_is_delayed_to_the_same_end(stage: Stage) -> None:
    def body() -> None:
        try:
            with context.shield():
                stage.interrupted(times=3)
                stage.notes.append("unbroken")
        finally:
            time.sleep(0.01)
            stage.notes.append("cleaned up")

    stage.run(body, times=3)
    assert stage.notes == ["unbroken", "cleaned up"]


@pytest.mark.parametrize("where", EXECUTORS[:2])
def test_nested_shields_end_with_the_outermost(stage: Stage) -> None:
    def body() -> None:
        with context.shield():
            with context.shield():
                stage.interrupted()
                stage.notes.append("inner")
            stage.notes.append("outer")
        stage.notes.append("not reached")

    stage.run(body)
    assert stage.notes == ["inner", "outer"]


@pytest.mark.parametrize("where", EXECUTORS[:2])
def test_an_exception_inside_is_not_lost_where_the_interrupt_is_raised(stage: Stage) -> None:
    def body() -> None:
        try:
            with context.shield():
                stage.interrupted()
                raise KeyError("the commit failed")
        except Interrupt as interrupt:
            stage.notes.append(repr(interrupt.__context__))
            raise

    execution = stage.run(body)
    assert stage.notes == ["KeyError('the commit failed')"]
    assert "the commit failed" in execution.interruption.where()


@pytest.mark.parametrize("where", EXECUTORS[:2])
def test_a_shield_in_the_clean_up_after_an_interrupt_delays_nothing(stage: Stage) -> None:
    def body() -> None:
        try:
            stage.interrupted()
            time.sleep(0.001)
            while True:
                time.sleep(0.001)
        finally:
            with context.shield():
                stage.notes.append("cleaned up")
            stage.notes.append("went on")

    stage.run(body)
    assert stage.notes == ["cleaned up", "went on"]


@pytest.mark.parametrize("where", EXECUTORS[2:])
def test_a_shield_in_the_clean_up_of_a_coroutine_delays_nothing(stage: Stage) -> None:
    async def body() -> None:
        try:
            stage._is_ready = True
            await asyncio.sleep(60)
        finally:
            with context.shield():
                await asyncio.sleep(0.001)
                stage.notes.append("cleaned up")
            await asyncio.sleep(0.001)
            stage.notes.append("went on")

    stage.run(body)
    assert stage.notes == ["cleaned up", "went on"]


@pytest.mark.parametrize("is_async", [False, True], ids=["a function", "a coroutine"])
def test_an_interrupt_at_the_entry_of_a_shield_is_raised_before_its_body_begins(is_async: bool) -> None:
    async def nothing(data: Any) -> None: ...

    execution = an_execution(nothing if is_async else lambda data: None)
    execution.begin()
    execution.interrupt(InterruptReason.TIMEOUT)
    assert execution.interruption.begin() is True, "it is not shielded yet: the interrupt is on its way"
    began: list[str] = []
    token = current_execution.set(execution)
    try:
        with pytest.raises(asyncio.CancelledError if is_async else Interrupt, match="timeout"), context.shield():
            began.append("the body")
        assert began == []
        with context.shield():
            began.append("the next")
    finally:
        current_execution.reset(token)
    assert began == ["the next"]


def test_an_interrupt_that_is_being_sent_breaks_no_shield_of_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that sends it may lose the processor after its check for shields."""
    notes: list[str] = []
    is_sending = threading.Event()

    def slowly(thread: threading.Thread, reason: InterruptReason) -> None:
        is_sending.set()
        until = time.monotonic() + 0.1
        eventually(lambda: "cleaning up" in notes or time.monotonic() > until)
        raise_in(thread, reason)

    def body(data: Any) -> None:
        is_sending.wait(5)
        try:
            with context.shield():
                notes.append("not reached")
        except Interrupt:
            with context.shield():
                notes.append("cleaning up")
                until = time.monotonic() + 0.05
                eventually(lambda: time.monotonic() > until)
                notes.append("cleaned up")

    monkeypatch.setattr(thread_pool, "raise_in", slowly)
    threads = Threads(1)
    execution = an_execution(body)
    threads.put(execution)
    threads.executor.interrupt(execution, InterruptReason.CANCELED)
    eventually(lambda: threads.executor.has_left(execution))
    assert notes == ["cleaning up", "cleaned up"]
    assert execution.interruption.shields == 0


@in_each_executor
def test_a_shield_without_an_interrupt_changes_nothing(where: str) -> None:
    stage = Stage(where)

    def body() -> None:
        with context.shield():
            stage.notes.append("inside")
        with pytest.raises(KeyError), context.shield():
            raise KeyError

    stage.execution = execution = an_execution(stage._task(body))
    execution.begin()
    if where == EXECUTORS[2]:
        asyncio.run(execution.run_async())
    else:
        run(execution)
    assert outcome_of(execution) is Outcome.RETURNED
    assert execution.interruption.shields == 0


def test_a_shield_outside_of_a_task_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no task is running here"):
        context.shield()


class Books:
    """A task that enters and leaves shields in a loop, and counts both."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def __call__(self, data: Any) -> None:
        while True:
            with context.shield():
                self.begun += 1
                for _ in range(20):
                    threading.get_ident()
                self.ended += 1


def test_no_interrupt_in_a_thread_ever_breaks_a_shielded_section() -> None:
    draw = random.Random(7)
    threads = Threads(1)
    for _ in range(30):
        task = Books()
        execution = an_execution(task)
        threads.put(execution)
        eventually(lambda task=task: task.begun)  # type: ignore[misc]
        time.sleep(draw.uniform(0, 0.002))
        threads.executor.interrupt(execution, InterruptReason.CANCELED)
        eventually(lambda execution=execution: threads.executor.has_left(execution))  # type: ignore[misc]
        threads.held.remove(execution)
        assert task.begun == task.ended


def test_no_interrupt_in_the_main_thread_ever_breaks_a_shielded_section() -> None:
    draw = random.Random(7)
    tasks = [Books() for _ in range(40)]
    Main().run(*(an_execution(task, timeout=draw.uniform(0.001, 0.004)) for task in tasks))
    assert [task.begun for task in tasks] == [task.ended for task in tasks]

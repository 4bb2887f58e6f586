"""The main thread executor: it interrupts a hanging task on time, and nothing else."""

import contextlib
import random
import threading
import time
from typing import Any

import pytest

from crew.protocol.message import Outcome
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.interruption import ONE_INTERRUPT
from crew.worker.executors.main_thread import MainThreadExecutor
from tests.support.deliveries import an_execution, outcome_of, value_of
from tests.support.executors import HANGING, Main, Recorder, busy_for, endless_loop, punctual
from tests.support.waiting import eventually


@pytest.fixture
def main(signals: None) -> Main:
    """A main thread executor."""
    return Main()


def test_executions_run_in_the_main_thread_until_the_executor_stops(main: Main) -> None:
    executions = [
        an_execution(lambda data: [data, threading.current_thread() is threading.main_thread()], n) for n in range(3)
    ]
    main.run(*executions)
    assert [value_of(execution) for execution in executions] == [[0, True], [1, True], [2, True]]
    assert main.started == executions
    assert main.held.running() == []
    assert all(main.executor.has_left(execution) for execution in executions)


@pytest.mark.parametrize("what", HANGING)
def test_a_task_that_hangs_is_interrupted_on_time_and_cleans_up(signals: None, what: str) -> None:
    def attempt() -> float:
        task = Recorder(HANGING[what])
        Main().run(execution := an_execution(task, timeout=0.08))
        assert task.reasons() == ["timeout"]
        assert task.cleaned_up == 1
        assert outcome_of(execution) is Outcome.TIMED_OUT
        return task.late(execution)

    punctual(attempt)


def test_a_call_is_interrupted_at_its_deadline_as_at_its_timeout(main: Main) -> None:
    task = Recorder(HANGING["sleep"])
    execution = an_execution(task, budget=0.05)
    main.run(execution)
    assert outcome_of(execution) is Outcome.TIMED_OUT
    assert len(task.interrupted) == 1


def test_the_next_task_runs_at_once_and_is_not_interrupted(main: Main) -> None:
    victim = an_execution(Recorder(HANGING["sleep"]), timeout=0.03)
    bystander = Recorder(lambda: time.sleep(0.06))
    next_one = an_execution(bystander, timeout=5)
    main.run(victim, next_one)
    assert outcome_of(next_one) is Outcome.RETURNED
    assert bystander.interrupted == []


def test_the_timer_of_a_task_that_ended_early_does_not_interrupt_a_later_one(main: Main) -> None:
    later = Recorder(lambda: time.sleep(0.08))
    early = an_execution(lambda data: "early", timeout=0.04)
    late = an_execution(later, budget=None)
    main.run(early, late)
    assert [outcome_of(early), outcome_of(late)] == [Outcome.RETURNED] * 2
    assert later.interrupted == []


@pytest.mark.parametrize(("first", "then"), [(60, 0.05), (0.03, 0.12)], ids=["nearer", "farther"])
def test_a_later_task_with_another_limit_is_interrupted_on_time(signals: None, first: float, then: float) -> None:
    def attempt() -> float:
        task = Recorder(HANGING["sleep"])
        execution = an_execution(task, timeout=then)
        Main().run(an_execution(lambda data: None, timeout=first), execution)
        return task.late(execution)

    punctual(attempt)


@pytest.mark.parametrize("reason", [InterruptReason.CANCELED, InterruptReason.DRAIN])
def test_another_thread_may_interrupt_the_running_task(main: Main, reason: InterruptReason) -> None:
    task = Recorder(HANGING["sleep"])
    execution = an_execution(task)

    def interrupt() -> None:
        eventually(lambda: task.has_begun)
        main.executor.interrupt(execution, reason)

    main.run_beside(interrupt, execution)
    assert task.reasons() == [reason]
    assert execution.reason is reason


def test_a_late_interrupt_has_no_effect(main: Main) -> None:
    first = an_execution(lambda data: "first")

    def body() -> str:
        main.executor.interrupt(first, InterruptReason.CANCELED)
        time.sleep(0.02)
        return "second"

    task = Recorder(body)
    second = an_execution(task)
    main.run(first, second)
    assert [value_of(first), value_of(second)] == ["first", "second"]
    assert task.interrupted == []


def test_an_interrupt_while_nothing_runs_has_no_effect(main: Main) -> None:
    main.run(done := an_execution(lambda data: "done"))
    main.executor.interrupt(done, InterruptReason.CANCELED)
    assert value_of(done) == "done"


def test_a_task_that_runs_on_is_interrupted_again(signals: None) -> None:
    task = Recorder(HANGING["sleep"], swallow=1)
    execution = an_execution(task, timeout=0.03)
    Main(resend=ONE_INTERRUPT + 0.01).run(execution)
    assert task.reasons() == ["timeout"] * 2
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_a_task_that_returns_a_value_after_its_interrupt_has_timed_out(main: Main) -> None:
    def stubborn(data: Any) -> str:
        with contextlib.suppress(SystemExit):
            time.sleep(60)
        return "too late"

    execution = an_execution(stubborn, timeout=0.03)
    main.run(execution)
    assert outcome_of(execution) is Outcome.TIMED_OUT


@pytest.mark.parametrize("timeout", [2.0**31, 1e10, 2.0**60], ids=str)
def test_an_absurdly_long_timeout_of_another_client_is_a_long_timeout(main: Main, timeout: float) -> None:
    """`crew-timeout` may be any 64-bit number of milliseconds: no value may crash the worker."""
    execution = an_execution(lambda data: "value", timeout=timeout, budget=None)
    main.run(execution)
    assert value_of(execution) == "value"


def test_an_execution_that_could_not_be_started_has_a_result(main: Main) -> None:
    """Else its caller would get no reply, and its delivery would never be acknowledged."""

    def broken(execution: Execution) -> None:
        raise ValueError("a bug")

    main.executor = MainThreadExecutor(main.buffer, main.held, on_started=broken, on_ended=main.ended.append)
    execution = an_execution(lambda data: "value")
    main.run(execution)
    assert execution.has_ended
    assert execution.result is not None


# --- never run; the stack --------------------------------------------------------------------------------------------


def test_an_execution_with_a_result_before_its_start_is_not_run(main: Main) -> None:
    ran: list[Any] = []
    canceled, next_one = an_execution(ran.append), an_execution(lambda data: "next")
    canceled.interrupt(InterruptReason.CANCELED)
    main.run(canceled, next_one)
    assert ran == []
    assert main.started == [next_one]
    assert outcome_of(canceled) is Outcome.CANCELED


def test_a_call_that_is_canceled_while_its_start_is_announced_is_not_run(main: Main) -> None:
    ran: list[Any] = []
    main.executor = MainThreadExecutor(
        main.buffer,
        main.held,
        on_started=lambda one: main.executor.interrupt(one, InterruptReason.CANCELED),
        on_ended=main.ended.append,
    )
    execution = an_execution(ran.append)
    main.run(execution)
    assert ran == []
    assert outcome_of(execution) is Outcome.CANCELED


def test_the_stack_shows_where_the_task_is(main: Main) -> None:
    stacks: list[str] = []

    def look() -> None:
        eventually(lambda: task.has_begun)
        stacks.append(main.executor.stack(execution))
        main.executor.interrupt(execution, InterruptReason.CANCELED)

    task = Recorder(endless_loop)
    execution = an_execution(task)
    main.run_beside(look, execution)
    assert "in endless_loop" in stacks[0]
    assert main.executor.stack(execution) == ""


def test_a_stuck_execution_of_the_main_thread_cannot_be_abandoned(main: Main) -> None:
    assert main.executor.can_abandon(an_execution()) is False


# --- many ------------------------------------------------------------------------------------------------------------


def test_each_execution_near_its_timeout_has_one_result_and_only_its_own_interrupt(main: Main) -> None:
    timeout = 0.003
    draw = random.Random(7)
    tasks: dict[Execution, Recorder] = {}

    close = [draw.uniform(0.97, 1.03) for _ in range(120)]
    for share in (*close, *[0.1] * 20, *[2.0] * 5):  # there are some of each result, also on a busy machine
        task = Recorder(busy_for(timeout * share))
        tasks[an_execution(task, timeout=timeout)] = task
    main.run(*tasks)
    outcomes = {outcome_of(execution) for execution in tasks}
    assert outcomes == {Outcome.RETURNED, Outcome.TIMED_OUT}
    for execution, task in tasks.items():
        assert len(task.interrupted) <= (outcome_of(execution) is Outcome.TIMED_OUT)

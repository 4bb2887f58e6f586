"""Signals in the main thread: tasks that use signals themselves, and tasks that never release the GIL."""

import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew.protocol.message import Outcome
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from tests.support.deliveries import an_execution, outcome_of
from tests.support.executors import HANGING, Main, Recorder, endless_loop, punctual
from tests.support.waiting import eventually


@pytest.fixture
def main(signals: None) -> Main:
    """A main thread executor."""
    return Main()


# --- tasks that change signals ---------------------------------------------------------------------------------------

MEDDLING: dict[str, Callable[[], object]] = {
    "takes SIGALRM": lambda: signal.signal(signal.SIGALRM, lambda *_: None),
    "ignores SIGALRM": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
    "blocks signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    "stops the timer": lambda: signal.alarm(0),
    "sets the timer to later": lambda: signal.alarm(60),
}


@pytest.mark.parametrize("what", MEDDLING)
def test_after_a_task_that_changes_signals_the_next_is_interrupted_on_time(signals: None, what: str) -> None:
    def attempt() -> float:
        main = Main()
        meddling = an_execution(lambda data: bool(MEDDLING[what]()), timeout=0.06)
        task = Recorder(HANGING["sleep"])
        next_one = an_execution(task, timeout=0.1)
        main.run_beside(lambda: helps_late(main, next_one), meddling, next_one)
        return task.late(next_one)

    punctual(attempt)


@pytest.mark.parametrize("what", MEDDLING)
def test_a_task_that_changes_signals_is_interrupted_by_the_io_thread(main: Main, what: str) -> None:
    def meddle_and_go_on() -> None:
        MEDDLING[what]()
        endless_loop()

    task = Recorder(meddle_and_go_on)
    execution = an_execution(task, timeout=0.03)
    main.run_beside(lambda: helps_late(main, execution), execution)
    assert task.reasons() == ["timeout"]
    assert outcome_of(execution) is Outcome.TIMED_OUT


def helps_late(main: Main, execution: Execution) -> None:
    """Interrupt as the watchdog does after the timer has failed; so late that a test that relies on it fails."""
    eventually(lambda: execution.limit is not None)
    eventually(lambda: execution.has_ended or time.monotonic() > (execution.limit or 0.0) + 0.15)
    if not execution.is_interrupted:
        main.executor.interrupt(execution, InterruptReason.TIMEOUT)


def test_a_second_signal_right_after_the_first_does_not_break_the_clean_up(main: Main) -> None:
    cleaned: list[str] = []

    def body(data: Any) -> None:
        try:
            time.sleep(60)
        finally:
            cleaned.append("begun")
            eventually(lambda: len(sent) == 2)
            cleaned.append("ended")

    def interrupt_twice() -> None:
        eventually(lambda: main.held.running() == [execution])
        main.executor.interrupt(execution, InterruptReason.CANCELED)
        sent.append("first")
        eventually(lambda: cleaned)
        main.executor.interrupt(execution, InterruptReason.CANCELED)
        sent.append("second")

    sent: list[str] = []
    execution = an_execution(body)
    main.run_beside(interrupt_twice, execution)
    assert cleaned == ["begun", "ended"]


# --- a task that never releases the GIL ------------------------------------------------------------------------------


def backtracks() -> None:
    """A regular expression that never ends, and never releases the GIL."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def test_other_threads_run_during_a_regular_expression(main: Main) -> None:
    """Heartbeats are sent meanwhile."""
    beats: list[float] = []
    task = Recorder(backtracks)
    execution = an_execution(task, timeout=1.0)  # on a busy machine a third of it is CPU time, with a pause every 0.1 s

    def beat() -> None:
        while not execution.has_ended:
            beats.append(time.monotonic())
            time.sleep(0.01)

    main.run_beside(beat, execution)
    assert execution.started is not None
    assert execution.limit is not None
    assert sum(execution.started + 0.1 < at < execution.limit for at in beats) >= 1
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_a_regular_expression_is_canceled_at_once(signals: None) -> None:
    def attempt() -> float:
        main, task, canceled_at = Main(), Recorder(backtracks), list[float]()
        execution = an_execution(task)

        def cancel() -> None:
            eventually(lambda: task.has_begun)
            canceled_at.append(time.monotonic())
            main.executor.interrupt(execution, InterruptReason.CANCELED)

        main.run_beside(cancel, execution)
        assert task.reasons() == ["canceled"]
        assert outcome_of(execution) is Outcome.CANCELED
        return task.interrupted[0][1] - canceled_at[0]

    punctual(attempt)

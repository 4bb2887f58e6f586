"""The thread executor: one thread for each task, and an interrupt is raised only in its own thread."""

import random
import sys
import threading
import time
from typing import Any

import pytest

from crew.protocol.message import Outcome
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from tests.support.deliveries import an_execution, outcome_of, value_of
from tests.support.executors import Recorder, Threads, busy_for, endless_loop
from tests.support.waiting import eventually


def test_as_many_tasks_run_at_a_time_as_there_are_slots() -> None:
    threads = Threads(2)
    go = threading.Event()
    executions = [an_execution(lambda data: go.wait(5)) for _ in range(3)]
    threads.put(*executions)
    eventually(lambda: len(threads.started) == 2)
    assert threads.held.running() == executions[:2]
    assert len(threads.buffer) == 1
    go.set()
    threads.run()
    assert [value_of(execution) for execution in executions] == [True] * 3
    assert sorted(map(id, threads.ended)) == sorted(map(id, executions))


def test_each_task_has_a_new_thread() -> None:
    threads = Threads(1)
    seen: list[threading.Thread] = []
    threads.run(*(an_execution(lambda data: seen.append(threading.current_thread())) for _ in range(5)))
    assert len({id(thread) for thread in seen}) == 5


@pytest.mark.parametrize("reason", InterruptReason)
def test_python_code_in_a_thread_is_interrupted(reason: InterruptReason) -> None:
    threads = Threads(1)
    task = Recorder(endless_loop)
    execution = an_execution(task)
    threads.put(execution)
    threads.interrupt(execution, task, reason)
    assert task.reasons() == [reason]
    assert execution.reason is reason
    assert task.cleaned_up == 1


def test_other_executions_are_not_interrupted() -> None:
    threads = Threads(2)
    go = threading.Event()
    victim, bystander = Recorder(endless_loop), Recorder(lambda: go.wait(5))
    first, second = an_execution(victim), an_execution(bystander)
    threads.put(first, second)
    threads.interrupt(first, victim)
    go.set()
    threads.run()
    assert outcome_of(second) is Outcome.RETURNED
    assert bystander.interrupted == []


def test_a_thread_that_runs_on_can_be_interrupted_again() -> None:
    threads = Threads(1)
    task = Recorder(endless_loop, swallow=1)
    execution = an_execution(task)
    threads.put(execution)
    eventually(lambda: task.has_begun)
    for times in (1, 2):
        threads.executor.interrupt(execution, InterruptReason.TIMEOUT)
        eventually(lambda times=times: len(task.interrupted) == times)  # type: ignore[misc]
    eventually(lambda: threads.executor.has_left(execution))
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_an_interrupt_after_the_end_changes_nothing() -> None:
    threads = Threads(1)
    execution = an_execution(lambda data: "value")
    threads.run(execution)
    threads.executor.interrupt(execution, InterruptReason.TIMEOUT)
    assert value_of(execution) == "value"
    assert not execution.is_interrupted


def test_an_interrupt_before_a_thread_has_reached_its_task_ends_the_execution_and_not_the_thread(
    capfd: pytest.CaptureFixture[str],
) -> None:
    threads, task = Threads(1), Recorder(lambda: "value")
    execution = an_execution(task)

    def interrupts(frame: object, event: str, argument: object) -> None:
        """Called in the new thread, in Python's own code: it counts as alive already."""
        sys.setprofile(None)
        threads.executor.interrupt(execution, InterruptReason.TIMEOUT)

    threading.setprofile(interrupts)
    try:
        threads.run(execution)
    finally:
        threading.setprofile(None)
    assert outcome_of(execution) is Outcome.TIMED_OUT
    assert threads.ended == [execution]
    assert not task.has_begun
    assert capfd.readouterr() == ("", "")


def test_sys_exit_ends_a_task_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    threads = Threads(1)

    def leave(data: Any) -> None:
        raise SystemExit("bye")

    threads.run(execution := an_execution(leave))
    assert outcome_of(execution) is Outcome.RAISED
    assert capfd.readouterr() == ("", "")


def test_serve_blocks_the_main_thread_until_the_executor_stops() -> None:
    threads = Threads(1)
    threading.Timer(0.02, threads.executor.stop).start()
    begin = time.monotonic()
    threads.executor.serve()
    assert time.monotonic() - begin >= 0.015


def test_each_execution_in_a_thread_has_one_result_and_only_its_own_interrupt() -> None:
    threads = Threads(2)
    timeout = 0.006
    draw = random.Random(7)
    tasks: dict[Execution, Recorder] = {}

    for _ in range(80):
        task = Recorder(busy_for(timeout * draw.uniform(0.97, 1.03), pause=0.0001))
        tasks[an_execution(task, timeout=timeout)] = task
    threads.run(*tasks)
    assert {outcome_of(execution) for execution in tasks} == {Outcome.RETURNED, Outcome.TIMED_OUT}
    for execution, task in tasks.items():
        assert len(task.interrupted) <= (outcome_of(execution) is Outcome.TIMED_OUT)


def test_a_call_whose_thread_cannot_be_started_frees_its_slot_and_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    threads = Threads(1)
    failures = [RuntimeError("can't start new thread"), MemoryError("out of memory")]
    start = threading.Thread.start

    def starts_later(thread: threading.Thread) -> None:
        if failures:
            raise failures.pop(0)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_later)
    first, second, third = (an_execution(lambda data: "value") for _ in range(3))
    threads.run(first, second, third)
    for refused in (first, second):
        assert outcome_of(refused) is Outcome.WORKER_LOST
        assert refused.result is not None
        assert refused.result.retry_after == 1.0
    assert value_of(third) == "value"
    assert threads.ended == [first, second, third]
    assert [record.message.partition("retry_in=1 ")[2] for record in caplog.records] == [
        "error=can't start new thread",
        "error=out of memory",
    ]

"""Where tasks run, and that an interrupt lands only where it is meant to."""

import contextlib
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crew.errors import Interrupt
from crew.protocol.message import Outcome
from crew.worker import lane as lane_module
from crew.worker.buffer import Buffer
from crew.worker.execution import Execution, Reason
from crew.worker.lane import MainLane, ThreadLane
from tests.unit.deliveries import an_execution, outcome_of, value_of
from tests.waiting import eventually

INTERRUPTED_WITHIN = 0.050  # seconds after the deadline, as promised


class Recorder:
    """A task that notes what happens to it.

    Attributes:
        interrupted: reason and time.monotonic() of each interrupt.
        cleaned_up: how often its `finally` ran.
    """

    def __init__(self, body: Callable[[], Any], *, swallow: int = 0) -> None:
        self._body = body
        self._swallow = swallow
        self.interrupted: list[tuple[str, float]] = []
        self.cleaned_up = 0

    def __call__(self, data: Any) -> Any:
        try:
            while True:
                try:
                    return self._body()
                except Interrupt as interrupt:
                    self.interrupted.append((interrupt.reason, time.monotonic()))
                    if len(self.interrupted) > self._swallow:
                        raise
        finally:
            self.cleaned_up += 1


def endless_loop() -> None:
    """Busy for ever."""
    number = 0
    while True:
        number = abs(number)


def locked() -> None:
    """Waits for ever for a lock."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def reading() -> None:
    """Waits for ever for a peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


HANGING = {
    "an endless loop": endless_loop,
    "sleep": lambda: time.sleep(60),
    "a lock": locked,
    "a queue": lambda: queue.Queue[None]().get(),
    "a socket": reading,
}


# --- the main thread ------------------------------------------------------------------------------------------------


class Main:
    """A main lane and what it did."""

    def __init__(self) -> None:
        self.buffer = Buffer()
        self.started: list[Execution] = []
        self.ended: list[Execution] = []
        self.lane = MainLane(self.buffer, on_started=self.started.append, on_ended=self.ended.append)

    def run(self, *executions: Execution) -> None:
        """Run them all, in the main thread."""
        for execution in executions:
            self.buffer.put(execution)
        self.lane.stop()
        self.lane.serve()
        assert self.ended == list(executions)


@pytest.fixture
def main() -> Iterator[Main]:
    """A main lane; SIGALRM and its timer are given back afterwards."""
    handler = signal.getsignal(signal.SIGALRM)
    yield Main()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)


def test_what_comes_is_run_in_the_main_thread_until_the_lane_stops(main: Main) -> None:
    executions = [
        an_execution(lambda data: [data, threading.current_thread() is threading.main_thread()], n) for n in range(3)
    ]
    main.run(*executions)
    assert [value_of(execution) for execution in executions] == [[0, True], [1, True], [2, True]]
    assert main.started == executions
    assert main.lane.running() == []
    assert all(main.lane.has_left(execution) for execution in executions)


@pytest.mark.parametrize("what", HANGING)
def test_a_task_that_hangs_is_interrupted_on_time_and_cleans_up(main: Main, what: str) -> None:
    task = Recorder(HANGING[what])
    execution = an_execution(task, timeout=0.08)
    main.run(execution)
    ((reason, when),) = task.interrupted
    assert reason == "timeout"
    assert execution.limit is not None
    assert 0 <= when - execution.limit < INTERRUPTED_WITHIN
    assert task.cleaned_up == 1
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_a_call_that_comes_to_its_deadline_is_interrupted_like_one_that_comes_to_its_timeout(main: Main) -> None:
    task = Recorder(HANGING["sleep"])
    execution = an_execution(task, budget=0.05)
    main.run(execution)
    assert outcome_of(execution) is Outcome.TIMED_OUT
    assert len(task.interrupted) == 1


def test_the_next_task_runs_at_once_and_is_left_alone(main: Main) -> None:
    victim = an_execution(Recorder(HANGING["sleep"]), timeout=0.03)
    bystander = Recorder(lambda: time.sleep(0.06))
    next_one = an_execution(bystander, timeout=5)
    main.run(victim, next_one)
    assert outcome_of(next_one) is Outcome.RETURNED
    assert bystander.interrupted == []


def test_a_timer_of_a_task_that_ended_early_does_not_hit_a_later_one(main: Main) -> None:
    later = Recorder(lambda: time.sleep(0.08))
    early = an_execution(lambda data: "early", timeout=0.04)
    late = an_execution(later, budget=None)
    main.run(early, late)
    assert [outcome_of(early), outcome_of(late)] == [Outcome.RETURNED] * 2
    assert later.interrupted == []


def test_a_later_task_with_a_nearer_limit_is_interrupted_on_time(main: Main) -> None:
    task = Recorder(HANGING["sleep"])
    near = an_execution(task, timeout=0.05)
    main.run(an_execution(lambda data: None, timeout=60), near)
    assert near.limit is not None
    assert task.interrupted[0][1] - near.limit < INTERRUPTED_WITHIN


def test_a_later_task_with_a_farther_limit_is_interrupted_on_time(main: Main) -> None:
    task = Recorder(HANGING["sleep"])
    far = an_execution(task, timeout=0.12)
    main.run(an_execution(lambda data: None, timeout=0.03), far)
    assert far.limit is not None
    assert 0 <= task.interrupted[0][1] - far.limit < INTERRUPTED_WITHIN


@pytest.mark.parametrize("reason", [Reason.CANCELED, Reason.DRAIN])
def test_another_thread_may_interrupt_what_runs(main: Main, reason: Reason) -> None:
    task = Recorder(HANGING["sleep"])
    execution = an_execution(task)

    def interrupt() -> None:
        eventually(lambda: main.lane.running() == [execution])
        main.lane.interrupt(execution, reason)

    threading.Thread(target=interrupt).start()
    main.run(execution)
    assert [why for why, _ in task.interrupted] == [reason]
    assert execution.reason is reason


def test_an_interrupt_that_comes_too_late_hits_nobody(main: Main) -> None:
    first = an_execution(lambda data: "first")

    def body() -> str:
        main.lane.interrupt(first, Reason.CANCELED)
        time.sleep(0.02)
        return "second"

    task = Recorder(body)
    second = an_execution(task)
    main.run(first, second)
    assert [value_of(first), value_of(second)] == ["first", "second"]
    assert task.interrupted == []


def test_an_interrupt_while_nothing_runs_hits_nobody(main: Main) -> None:
    main.run(done := an_execution(lambda data: "done"))
    main.lane.interrupt(done, Reason.CANCELED)
    assert value_of(done) == "done"


def test_a_task_that_goes_on_is_interrupted_again(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RESEND", 0.03)
    task = Recorder(HANGING["sleep"], swallow=2)
    execution = an_execution(task, timeout=0.03)
    main.run(execution)
    assert [reason for reason, _ in task.interrupted] == ["timeout"] * 3
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_a_task_that_answers_its_interrupt_with_a_value_has_timed_out_all_the_same(main: Main) -> None:
    def stubborn(data: Any) -> str:
        with contextlib.suppress(SystemExit):
            time.sleep(60)
        return "too late"

    execution = an_execution(stubborn, timeout=0.03)
    main.run(execution)
    assert outcome_of(execution) is Outcome.TIMED_OUT


@pytest.mark.parametrize("timeout", [2.0**31, 1e10, 2.0**60], ids=str)
def test_an_absurdly_long_timeout_of_another_sender_is_a_long_timeout(main: Main, timeout: float) -> None:
    """`crew-timeout` is any 64-bit number of milliseconds: a message cannot take the system down."""
    execution = an_execution(lambda data: "value", timeout=timeout, budget=None)
    main.run(execution)
    assert value_of(execution) == "value"


def test_an_execution_that_could_not_be_begun_is_decided_all_the_same(main: Main) -> None:
    """Else nobody answers its caller, and its delivery is held for ever."""

    def broken(execution: Execution) -> None:
        raise ValueError("a bug")

    main.lane = MainLane(main.buffer, on_started=broken, on_ended=main.ended.append)
    execution = an_execution(lambda data: "value")
    main.run(execution)
    assert execution.has_ended
    assert execution.ended is not None


def test_executions_that_end_at_their_timeout_get_one_answer_each_and_no_interrupt_of_another(main: Main) -> None:
    timeout = 0.003
    draw = random.Random(7)
    tasks: dict[Execution, Recorder] = {}

    def busy_for(seconds: float) -> Callable[[], str]:
        def body() -> str:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
            return "value"

        return body

    for _ in range(120):
        task = Recorder(busy_for(timeout * draw.uniform(0.97, 1.03)))
        tasks[an_execution(task, timeout=timeout)] = task
    main.run(*tasks)
    outcomes = {outcome_of(execution) for execution in tasks}
    assert outcomes == {Outcome.RETURNED, Outcome.TIMED_OUT}
    for execution, task in tasks.items():
        assert len(task.interrupted) <= (outcome_of(execution) is Outcome.TIMED_OUT)


# --- threads --------------------------------------------------------------------------------------------------------


class Threads:
    """A thread lane, and what it did; the test is its I/O thread."""

    def __init__(self, slots: int) -> None:
        self.buffer = Buffer()
        self.started: list[Execution] = []
        self.ended: list[Execution] = []
        self.lane = ThreadLane(slots, self.buffer, on_started=self.started.append, on_ended=self.ended.append)

    def put(self, *executions: Execution) -> None:
        """They arrive."""
        for execution in executions:
            self.buffer.put(execution)
        self.lane.fill()

    def settle(self) -> list[Execution]:
        """Release what has left, fill the slots, interrupt what is over its limit; returns what runs."""
        for execution in self.lane.running():
            if self.lane.has_left(execution):
                self.lane.release(execution)
            elif execution.limit is not None and time.monotonic() >= execution.limit and not execution.is_interrupted:
                self.lane.interrupt(execution, Reason.TIMEOUT)
        self.lane.fill()
        return self.lane.running()

    def run(self, *executions: Execution) -> None:
        """Run them all."""
        self.put(*executions)
        deadline = time.monotonic() + 10
        while self.settle():
            assert time.monotonic() < deadline, self.lane.running()
            time.sleep(0.0002)


def test_several_tasks_run_at_a_time_and_no_more() -> None:
    threads = Threads(2)
    go = threading.Event()
    executions = [an_execution(lambda data: go.wait(5)) for _ in range(3)]
    threads.put(*executions)
    eventually(lambda: len(threads.started) == 2)
    assert threads.lane.running() == executions[:2]
    assert len(threads.buffer) == 1
    go.set()
    threads.run()
    assert [value_of(execution) for execution in executions] == [True] * 3
    assert sorted(map(id, threads.ended)) == sorted(map(id, executions))


def test_each_task_has_a_thread_that_is_never_used_again() -> None:
    threads = Threads(1)
    seen: list[threading.Thread] = []
    threads.run(*(an_execution(lambda data: seen.append(threading.current_thread())) for _ in range(5)))
    assert len({id(thread) for thread in seen}) == 5


@pytest.mark.parametrize("reason", Reason)
def test_python_code_in_a_thread_is_interrupted(reason: Reason) -> None:
    threads = Threads(1)
    task = Recorder(endless_loop)
    execution = an_execution(task)
    threads.put(execution)
    eventually(lambda: execution.started)
    threads.lane.interrupt(execution, reason)
    eventually(lambda: threads.lane.has_left(execution))
    assert [why for why, _ in task.interrupted] == [reason]
    assert execution.reason is reason
    assert task.cleaned_up == 1


def test_the_others_are_left_alone() -> None:
    threads = Threads(2)
    go = threading.Event()
    victim, bystander = Recorder(endless_loop), Recorder(lambda: go.wait(5))
    first, second = an_execution(victim), an_execution(bystander)
    threads.put(first, second)
    threads.lane.interrupt(first, Reason.CANCELED)
    eventually(lambda: threads.lane.has_left(first))
    go.set()
    threads.run()
    assert outcome_of(second) is Outcome.RETURNED
    assert bystander.interrupted == []


def test_a_thread_that_goes_on_can_be_interrupted_again() -> None:
    threads = Threads(1)
    task = Recorder(endless_loop, swallow=1)
    execution = an_execution(task)
    threads.put(execution)
    for times in (1, 2):
        threads.lane.interrupt(execution, Reason.TIMEOUT)
        eventually(lambda times=times: len(task.interrupted) == times)  # type: ignore[misc]
    eventually(lambda: threads.lane.has_left(execution))
    assert outcome_of(execution) is Outcome.TIMED_OUT


def test_an_interrupt_after_the_end_changes_nothing() -> None:
    threads = Threads(1)
    execution = an_execution(lambda data: "value")
    threads.run(execution)
    threads.lane.interrupt(execution, Reason.TIMEOUT)
    assert value_of(execution) == "value"
    assert not execution.is_interrupted


def test_sys_exit_ends_a_task_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    threads = Threads(1)

    def leave(data: Any) -> None:
        raise SystemExit("bye")

    threads.run(execution := an_execution(leave))
    assert outcome_of(execution) is Outcome.RAISED
    assert capfd.readouterr() == ("", "")


def test_the_main_thread_is_held_until_the_lane_stops() -> None:
    threads = Threads(1)
    threading.Timer(0.02, threads.lane.stop).start()
    begin = time.monotonic()
    threads.lane.serve()
    assert time.monotonic() - begin >= 0.015


def test_executions_in_threads_that_end_at_their_timeout_get_one_answer_each_and_no_interrupt_of_another() -> None:
    threads = Threads(2)
    timeout = 0.006
    draw = random.Random(7)
    tasks: dict[Execution, Recorder] = {}

    def busy_for(seconds: float) -> Callable[[], str]:
        def body() -> str:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(0.0001)
            return "value"

        return body

    for _ in range(80):
        task = Recorder(busy_for(timeout * draw.uniform(0.97, 1.03)))
        tasks[an_execution(task, timeout=timeout)] = task
    threads.run(*tasks)
    assert {outcome_of(execution) for execution in tasks} == {Outcome.RETURNED, Outcome.TIMED_OUT}
    for execution, task in tasks.items():
        assert len(task.interrupted) <= (outcome_of(execution) is Outcome.TIMED_OUT)

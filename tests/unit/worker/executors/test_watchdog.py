"""The watchdog: when it announces, interrupts and escalates, and when it shortens the switch interval."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

import pytest

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.state import ExecutionEvent
from crew.worker.executors import watchdog as watchdog_module
from crew.worker.executors.watchdog import BUSY_AFTER, CHECK_INTERVAL, SHORT_SWITCH_INTERVAL, TIMER_DELAY, Watchdog
from tests.support.deliveries import an_execution
from tests.support.executors import PlayedExecutor
from tests.support.waiting import until

ANSWERED = 0.5  # seconds after the deadline: the promise


class Seen:
    """The reports of the watchdog, with the time of the first report of each kind."""

    def __init__(self, executor: PlayedExecutor) -> None:
        self.executor = executor
        self.reports: list[tuple[str, Execution | None]] = []
        self.at: dict[str, float] = {}

    def note(self, what: str, execution: Execution | None = None) -> None:
        self.reports.append((what, execution))
        self.at.setdefault(what, time.monotonic())

    def kinds(self) -> set[str]:
        """The kinds of reports so far."""
        return {what for what, _ in self.reports}

    def has_work(self) -> bool:
        return bool(self.executor.executions)

    def on_started_long_ago(self, execution: Execution) -> None:
        execution.state.move(ExecutionEvent.ANNOUNCE)
        self.note("announced", execution)

    def on_decided(self, execution: Execution) -> None:
        self.note("decided", execution)

    def on_ended(self, execution: Execution) -> None:
        self.executor.held.remove(execution)
        self.note("ended", execution)

    def on_stuck(self, execution: Execution) -> None:
        self.note("stuck", execution)

    def on_busy(self) -> None:
        self.note("busy")


def watched(executor: PlayedExecutor, *, grace: float = 5.0, resend: float = 1.0) -> tuple[Watchdog, Seen]:
    """A watchdog of `executor`, and its reports."""
    seen = Seen(executor)
    return Watchdog(executor, seen, executor.held, grace=grace, resend=resend), seen


@pytest.mark.gen_test
async def test_a_thread_is_interrupted_on_time_and_its_caller_gets_the_reply() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor)
    execution = executor.begin(an_execution(timeout=0.05))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert executor.interrupts == [(execution, InterruptReason.TIMEOUT)]
    assert execution.limit is not None
    assert 0 <= seen.at["decided"] - execution.limit < ANSWERED
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_nearest_limit_is_checked_first() -> None:
    executor = PlayedExecutor(slots=2)
    watchdog, _ = watched(executor)
    far, near = executor.begin(an_execution(timeout=60)), executor.begin(an_execution(timeout=0.03))
    watchdog.wake_by(far.limit)
    watchdog.wake_by(near.limit)
    await until(lambda: executor.interrupts)
    assert executor.interrupts == [(near, InterruptReason.TIMEOUT)]
    assert near.limit is not None
    assert time.monotonic() - near.limit < 5
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_watchdog_interrupts_the_main_thread_only_if_its_timer_has_failed() -> None:
    executor = PlayedExecutor(has_timer=True)
    watchdog, _ = watched(executor)
    execution = executor.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: executor.interrupts)
    assert execution.limit is not None
    assert time.monotonic() - execution.limit >= TIMER_DELAY
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_caller_gets_its_reply_on_time_though_its_task_cannot_be_interrupted() -> None:
    executor = PlayedExecutor(has_timer=True)
    watchdog, seen = watched(executor)
    execution = executor.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert execution.is_interrupted
    assert execution.limit is not None
    assert seen.at["decided"] - execution.limit < ANSWERED
    watchdog.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("shields", [0, 1], ids=["a task", "a shielded task"])
async def test_a_task_that_runs_on_is_interrupted_again_but_not_all_the_time(shields: int) -> None:
    """Every second, so that the task can clean up; faster in this test."""
    executor = PlayedExecutor()
    watchdog, _ = watched(executor, resend=0.15)
    execution = executor.begin(an_execution(timeout=0.02))
    execution.interruption.shields = shields
    watchdog.wake_by(execution.limit)
    await until(lambda: len(executor.interrupts) == 3)
    assert executor.interrupts == [(execution, InterruptReason.TIMEOUT)] * 3
    assert all(later - earlier >= 0.149 for earlier, later in itertools.pairwise(executor.interrupted_at))
    watchdog.stop()


@pytest.mark.gen_test
async def test_an_execution_that_its_executor_has_interrupted_is_not_interrupted_twice() -> None:
    executor = PlayedExecutor(has_timer=True)
    watchdog, seen = watched(executor)
    execution = executor.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    assert execution.limit is not None
    time.sleep(max(0.0, execution.limit - time.monotonic()))  # noqa: ASYNC251  # the executor interrupts before the watchdog checks
    execution.interrupt(InterruptReason.TIMEOUT)
    execution.interruption.begin()
    await until(lambda: "decided" in seen.at)
    until_then = time.monotonic() + 3 * CHECK_INTERVAL
    await until(lambda: time.monotonic() > until_then)
    assert executor.interrupts == []
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_caller_of_a_shielded_task_gets_its_reply_on_time() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor, grace=0.15)
    execution = executor.begin(an_execution(timeout=0.02))
    execution.interruption.shields = 1
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert execution.limit is not None
    assert seen.at["decided"] - execution.limit < ANSWERED
    await until(lambda: "stuck" in seen.at)
    assert seen.at["stuck"] - execution.limit >= 0.15, "it has its grace"
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_grace_of_a_canceled_execution_begins_with_the_cancel() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor, grace=0.15)
    execution = executor.begin(an_execution(timeout=60))
    begin = time.monotonic()
    watchdog.interrupt(execution, InterruptReason.CANCELED)
    await until(lambda: "stuck" in seen.at)
    assert 0.15 <= seen.at["stuck"] - begin < 2
    assert execution.reason is InterruptReason.CANCELED
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_task_that_runs_on_after_its_grace_is_stuck() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor, grace=0.1)
    execution = executor.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "stuck" in seen.at)
    assert execution.limit is not None
    assert seen.at["stuck"] - execution.limit >= 0.1
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_task_that_ended_in_its_grace_is_not_stuck() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor, grace=0.1)
    execution = executor.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    execution.end()
    await until(lambda: "ended" in seen.at)
    other = executor.begin(an_execution(timeout=0.2))
    watchdog.wake_by(other.limit)
    await until(lambda: len(executor.interrupts) == 2)
    assert "stuck" not in seen.at
    watchdog.stop()


@pytest.mark.gen_test
async def test_only_a_long_call_is_announced_and_once() -> None:
    executor = PlayedExecutor(slots=2)
    watchdog, seen = watched(executor)
    execution = executor.begin(an_execution())
    watchdog.wake()
    await until(lambda: "announced" in seen.at)
    assert execution.started is not None
    assert seen.at["announced"] - execution.started >= 0.2
    await until(lambda: time.monotonic() - seen.at["announced"] > 0.25)
    assert seen.reports == [("announced", execution)]
    watchdog.stop()


@pytest.mark.gen_test
async def test_an_executor_without_a_free_slot_is_busy() -> None:
    executor = PlayedExecutor(slots=2)
    watchdog, seen = watched(executor)
    executor.begin(an_execution())
    watchdog.wake()
    await until(lambda: "announced" in seen.at)
    assert "busy" not in seen.at
    second = executor.begin(an_execution())
    await until(lambda: "busy" in seen.at)
    assert second.started is not None
    assert seen.at["busy"] - second.started >= BUSY_AFTER
    watchdog.stop()


@pytest.mark.gen_test
async def test_an_execution_that_ended_without_a_report_is_noticed() -> None:
    executor = PlayedExecutor()
    watchdog, seen = watched(executor)
    execution = executor.begin(an_execution())
    execution.end()
    watchdog.wake()
    await until(lambda: ("ended", execution) in seen.reports)
    assert executor.interrupts == []


@pytest.mark.gen_test
async def test_the_watchdog_does_not_check_while_nothing_runs() -> None:
    executor = PlayedExecutor()
    watchdog, _ = watched(executor)
    executor.begin(an_execution()).end()
    watchdog.wake()
    await until(lambda: watchdog._timer is None)
    assert executor.executions == []


@pytest.mark.gen_test
async def test_a_report_that_fails_does_not_stop_the_watchdog() -> None:
    """Else no later timeout of a thread would be enforced."""
    executor = PlayedExecutor(slots=2)
    watchdog, seen = watched(executor)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def failing(execution: Execution) -> None:
        execution.state.move(ExecutionEvent.ANNOUNCE)
        raise ConnectionError("the channel is closed")

    seen.on_started_long_ago = failing  # type: ignore[method-assign]
    execution = executor.begin(an_execution(timeout=0.4))
    watchdog.wake_by(execution.limit)
    await until(lambda: executor.interrupts)
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_watchdog_that_stops_restores_the_switch_interval() -> None:
    executor = PlayedExecutor()
    watchdog, _ = watched(executor)
    usual = sys.getswitchinterval()
    watchdog.wake_by(executor.begin(an_execution(timeout=0.01)).limit)
    await until(lambda: sys.getswitchinterval() < usual)
    watchdog.stop()
    assert sys.getswitchinterval() == pytest.approx(usual)


# --- the switch interval ---------------------------------------------------------------------------------------------


@pytest.fixture
def usual() -> Iterator[float]:
    """A switch interval that the user has set; restored afterwards."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_the_switch_interval_is_short_while_any_watchdog_has_an_execution_near_its_limit(usual: float) -> None:
    first, second = object(), object()
    watchdog_module._shorten_switch_interval(first, near=True)
    watchdog_module._shorten_switch_interval(second, near=True)
    watchdog_module._shorten_switch_interval(first, near=False)
    assert sys.getswitchinterval() == pytest.approx(SHORT_SWITCH_INTERVAL)
    watchdog_module._shorten_switch_interval(second, near=False)
    assert sys.getswitchinterval() == pytest.approx(usual)


@pytest.mark.usefixtures("usual")
def test_a_switch_interval_that_is_shorter_already_stays() -> None:
    sys.setswitchinterval(0.0005)
    watchdog_module._shorten_switch_interval(me := object(), near=True)
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    watchdog_module._shorten_switch_interval(me, near=False)
    assert sys.getswitchinterval() == pytest.approx(0.0005)

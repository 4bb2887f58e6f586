"""Who looks at what runs, and what it does about it."""

import asyncio
import itertools
import sys
import time

import pytest

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.executors import watchdog as watchdog_module
from crew.worker.executors.watchdog import BUSY_AFTER, HELP_AFTER, LOOK_EVERY, Watchdog
from tests.support.deliveries import an_execution
from tests.support.executors import PlayedLane
from tests.support.waiting import until

ANSWERED = 0.5  # seconds after the deadline: the promise


class Seen:
    """What the watchdog reported, with the time of the first report of each kind."""

    def __init__(self, lane: PlayedLane) -> None:
        self.lane = lane
        self.told: list[tuple[str, Execution | None]] = []
        self.at: dict[str, float] = {}

    def note(self, what: str, execution: Execution | None = None) -> None:
        self.told.append((what, execution))
        self.at.setdefault(what, time.monotonic())

    def kinds(self) -> set[str]:
        """Kinds of reports so far."""
        return {what for what, _ in self.told}

    def has_work(self) -> bool:
        return bool(self.lane.executions)

    def on_started_long_ago(self, execution: Execution) -> None:
        execution.is_announced = True
        self.note("announced", execution)

    def on_decided(self, execution: Execution) -> None:
        self.note("decided", execution)

    def on_ended(self, execution: Execution) -> None:
        self.lane.release(execution)
        self.note("ended", execution)

    def on_stuck(self, execution: Execution) -> None:
        self.note("stuck", execution)

    def on_busy(self) -> None:
        self.note("busy")


def watched(lane: PlayedLane, *, grace: float = 5.0) -> tuple[Watchdog, Seen]:
    """A watchdog of `lane`, and what it reports."""
    seen = Seen(lane)
    return Watchdog(lane, seen, grace=grace), seen


@pytest.mark.gen_test
async def test_a_thread_is_interrupted_on_time_and_its_caller_answered() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane)
    execution = lane.begin(an_execution(timeout=0.05))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert lane.interrupts == [(execution, Reason.TIMEOUT)]
    assert execution.limit is not None
    assert 0 <= seen.at["decided"] - execution.limit < ANSWERED
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_nearer_limit_is_looked_at_first() -> None:
    lane = PlayedLane(slots=2)
    watchdog, _ = watched(lane)
    far, near = lane.begin(an_execution(timeout=60)), lane.begin(an_execution(timeout=0.03))
    watchdog.wake_by(far.limit)
    watchdog.wake_by(near.limit)
    await until(lambda: lane.interrupts)
    assert lane.interrupts == [(near, Reason.TIMEOUT)]
    assert near.limit is not None
    assert time.monotonic() - near.limit < 5
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_main_lane_is_helped_only_where_its_own_timer_failed() -> None:
    lane = PlayedLane(has_timer=True)
    watchdog, _ = watched(lane)
    execution = lane.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: lane.interrupts)
    assert execution.limit is not None
    assert time.monotonic() - execution.limit >= HELP_AFTER
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_caller_is_answered_on_time_though_its_task_cannot_be_interrupted() -> None:
    lane = PlayedLane(has_timer=True)
    watchdog, seen = watched(lane)
    execution = lane.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert execution.is_interrupted
    assert execution.limit is not None
    assert seen.at["decided"] - execution.limit < ANSWERED
    watchdog.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("shields", [0, 1], ids=["a task", "a shielded task"])
async def test_a_task_that_goes_on_is_interrupted_again_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch, shields: int
) -> None:
    """Every second, so that it can clean up; here faster."""
    monkeypatch.setattr(watchdog_module, "RESEND", 0.15)
    lane = PlayedLane()
    watchdog, _ = watched(lane)
    execution = lane.begin(an_execution(timeout=0.02))
    execution.shields = shields
    watchdog.wake_by(execution.limit)
    await until(lambda: len(lane.interrupts) == 3)
    assert lane.interrupts == [(execution, Reason.TIMEOUT)] * 3
    assert all(later - earlier >= 0.149 for earlier, later in itertools.pairwise(lane.interrupted_at))
    watchdog.stop()


@pytest.mark.gen_test
async def test_what_the_lane_itself_has_struck_is_not_interrupted_once_more() -> None:
    lane = PlayedLane(has_timer=True)
    watchdog, seen = watched(lane)
    execution = lane.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    assert execution.limit is not None
    time.sleep(max(0.0, execution.limit - time.monotonic()))  # noqa: ASYNC251  # the lane strikes before anybody looks
    execution.interrupt(Reason.TIMEOUT)
    execution.owe()
    await until(lambda: "decided" in seen.at)
    until_then = time.monotonic() + 3 * LOOK_EVERY
    await until(lambda: time.monotonic() > until_then)
    assert lane.interrupts == []
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_caller_of_a_shielded_task_is_answered_on_time() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane, grace=0.15)
    execution = lane.begin(an_execution(timeout=0.02))
    execution.shields = 1
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    assert execution.limit is not None
    assert seen.at["decided"] - execution.limit < ANSWERED
    await until(lambda: "stuck" in seen.at)
    assert seen.at["stuck"] - execution.limit >= 0.15, "it has its grace"
    watchdog.stop()


@pytest.mark.gen_test
async def test_the_grace_of_what_is_cancelled_begins_with_the_cancel() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane, grace=0.15)
    execution = lane.begin(an_execution(timeout=60))
    begin = time.monotonic()
    watchdog.interrupt(execution, Reason.CANCELED)
    await until(lambda: "stuck" in seen.at)
    assert 0.15 <= seen.at["stuck"] - begin < 2
    assert execution.reason is Reason.CANCELED
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_task_that_goes_on_after_its_grace_is_stuck() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane, grace=0.1)
    execution = lane.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "stuck" in seen.at)
    assert execution.limit is not None
    assert seen.at["stuck"] - execution.limit >= 0.1
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_task_that_ended_in_its_grace_is_not_stuck() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane, grace=0.1)
    execution = lane.begin(an_execution(timeout=0.02))
    watchdog.wake_by(execution.limit)
    await until(lambda: "decided" in seen.at)
    execution.has_ended = True
    await until(lambda: "ended" in seen.at)
    other = lane.begin(an_execution(timeout=0.2))
    watchdog.wake_by(other.limit)
    await until(lambda: len(lane.interrupts) == 2)
    assert "stuck" not in seen.at
    watchdog.stop()


@pytest.mark.gen_test
async def test_only_a_call_that_takes_long_is_announced_and_once() -> None:
    lane = PlayedLane(slots=2)
    watchdog, seen = watched(lane)
    execution = lane.begin(an_execution())
    watchdog.wake()
    await until(lambda: "announced" in seen.at)
    assert execution.started is not None
    assert seen.at["announced"] - execution.started >= 0.2
    await until(lambda: time.monotonic() - seen.at["announced"] > 0.25)
    assert seen.told == [("announced", execution)]
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_lane_without_a_free_slot_is_busy() -> None:
    lane = PlayedLane(slots=2)
    watchdog, seen = watched(lane)
    lane.begin(an_execution())
    watchdog.wake()
    await until(lambda: "announced" in seen.at)
    assert "busy" not in seen.at
    second = lane.begin(an_execution())
    await until(lambda: "busy" in seen.at)
    assert second.started is not None
    assert seen.at["busy"] - second.started >= BUSY_AFTER
    watchdog.stop()


@pytest.mark.gen_test
async def test_what_left_without_a_word_is_noticed() -> None:
    lane = PlayedLane()
    watchdog, seen = watched(lane)
    execution = lane.begin(an_execution())
    execution.has_ended = True
    watchdog.wake()
    await until(lambda: ("ended", execution) in seen.told)
    assert lane.interrupts == []


@pytest.mark.gen_test
async def test_nobody_looks_while_there_is_nothing_to_see() -> None:
    lane = PlayedLane()
    watchdog, _ = watched(lane)
    lane.begin(an_execution()).has_ended = True
    watchdog.wake()
    await until(lambda: watchdog._timer is None)
    assert lane.executions == []


@pytest.mark.gen_test
async def test_a_report_that_fails_does_not_blind_the_watchdog() -> None:
    """Else no later timeout of a thread would be enforced."""
    lane = PlayedLane(slots=2)
    watchdog, seen = watched(lane)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def failing(execution: Execution) -> None:
        execution.is_announced = True
        raise ConnectionError("the channel is closed")

    seen.on_started_long_ago = failing  # type: ignore[method-assign]
    execution = lane.begin(an_execution(timeout=0.4))
    watchdog.wake_by(execution.limit)
    await until(lambda: lane.interrupts)
    watchdog.stop()


@pytest.mark.gen_test
async def test_a_watchdog_that_stops_leaves_the_turns_of_threads_as_they_were() -> None:
    lane = PlayedLane()
    watchdog, _ = watched(lane)
    usual = sys.getswitchinterval()
    watchdog.wake_by(lane.begin(an_execution(timeout=0.01)).limit)
    await until(lambda: sys.getswitchinterval() < usual)
    watchdog.stop()
    assert sys.getswitchinterval() == pytest.approx(usual)

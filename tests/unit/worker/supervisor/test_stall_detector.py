"""The stall detector: which processes it kills, and which not."""

import math
import socket
import time
from collections.abc import Iterator

import pytest

from crew.worker.execution.execution import Execution
from crew.worker.shared_state.messages import DUMP_STACKS
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.supervisor.child_process import ChildProcess
from crew.worker.supervisor.stall_detector import DUMP_WITHIN, OVERDUE_AFTER, StallDetector
from tests.support.deliveries import an_execution
from tests.support.waiting import eventually

GRACE = 0.1
SILENCE = 0.05
WAKES_WITHIN = 0.02


class PlayedChild(ChildProcess):
    """A fake process that records signals and kills."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(0, 0, ours)
        self.signals: list[int] = []
        self.kills = 0

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.kills += 1


class Watched:
    """A fake process and its stall detector."""

    def __init__(self) -> None:
        self.shared_state = SharedState(1, 10)
        self.detector = StallDetector(self.shared_state, grace=GRACE, silence=SILENCE, wakes_within=WAKES_WITHIN)
        self.child = PlayedChild()

    def runs(self, *, late: float | None) -> Execution:
        """Run a call that has been overdue for `late` seconds."""
        execution = an_execution()
        execution.times.limit = None if late is None else time.monotonic() - late - GRACE - OVERDUE_AFTER
        self.shared_state.begin(0, execution)
        return execution

    def look(self) -> None:
        """Check the process, as each turn of the supervisor does."""
        self.detector.check([self.child])

    def look_again(self) -> None:
        """Check the process after its stacks were dumped."""
        eventually(lambda: time.monotonic() >= self.child.suspected_at + DUMP_WITHIN)
        self.look()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A fake process; its sockets are closed after the test."""
    made = Watched()
    yield made
    made.child.socket.close()
    made.child.theirs.close()


def test_a_process_with_an_overdue_call_dumps_its_stacks_and_is_killed_once(watched: Watched) -> None:
    watched.runs(late=0.01)
    watched.look()
    assert (watched.child.signals, watched.child.kills) == ([DUMP_STACKS], 0)
    watched.look()
    assert (watched.child.signals, watched.child.kills) == ([DUMP_STACKS], 0), "it has a moment to write its stacks"
    watched.look_again()
    assert watched.child.kills == 1
    watched.look_again()
    assert (watched.child.signals, watched.child.kills) == ([DUMP_STACKS], 1)


def test_a_process_whose_tasks_have_time_left_is_not_killed(watched: Watched) -> None:
    watched.runs(late=-60)
    watched.runs(late=None)
    watched.look()
    assert watched.child.signals == []


def test_a_process_that_ends_the_call_while_its_stacks_are_dumped_is_not_killed(watched: Watched) -> None:
    execution = watched.runs(late=0.01)
    watched.look()
    watched.shared_state.end(execution)
    watched.look_again()
    assert watched.child.kills == 0
    assert watched.child.suspects == []


def test_a_call_that_becomes_overdue_during_a_dump_gets_its_own_dump_first(watched: Watched) -> None:
    execution = watched.runs(late=0.01)
    watched.look()
    watched.shared_state.end(execution)
    watched.runs(late=0.01)
    watched.look_again()
    assert watched.child.kills == 0
    watched.look()
    assert watched.child.signals == [DUMP_STACKS] * 2
    watched.look_again()
    assert watched.child.kills == 1


def test_the_next_check_is_when_a_call_can_be_overdue(watched: Watched) -> None:
    now = time.monotonic()
    assert watched.detector.next_check(watched.child, now) == now + GRACE + OVERDUE_AFTER
    execution = watched.runs(late=0.01)
    assert watched.detector.next_check(watched.child, now) == pytest.approx(
        (execution.limit or 0.0) + GRACE + OVERDUE_AFTER
    )
    watched.look()
    assert watched.detector.next_check(watched.child, now) == watched.child.suspected_at + DUMP_WITHIN
    watched.look_again()
    assert watched.detector.next_check(watched.child, now) == math.inf


# --- silent ---------------------------------------------------------------------------------------------------------


def is_silent(watched: Watched) -> None:
    """Let its I/O thread run, and then stop."""
    watched.shared_state.mark_alive(0)
    eventually(lambda: time.monotonic() > watched.shared_state.last_alive(0) + SILENCE)


def test_a_process_whose_io_thread_does_not_run_is_dumped_and_then_killed_once(watched: Watched) -> None:
    watched.runs(late=None)
    is_silent(watched)
    watched.look()
    assert (watched.child.signals, watched.child.kills) == ([DUMP_STACKS], 0)
    eventually(lambda: time.monotonic() >= watched.child.stalled_at + WAKES_WITHIN)
    watched.look()
    watched.look()
    assert (watched.child.signals, watched.child.kills) == ([DUMP_STACKS], 1)
    assert watched.child.overdue == [], "its calls are redelivered, and count as crashes"


def test_a_process_that_was_suspended_with_its_host_is_not_killed_when_it_wakes(watched: Watched) -> None:
    is_silent(watched)
    watched.look()
    watched.shared_state.mark_alive(0)
    watched.look()
    assert watched.child.stalled_at == 0.0
    is_silent(watched)
    watched.look()
    assert watched.child.kills == 0


def test_a_process_whose_io_thread_has_not_started_is_not_stalled(watched: Watched) -> None:
    watched.look()
    assert watched.child.signals == []
    now = time.monotonic()
    watched.shared_state.mark_alive(0)
    assert watched.detector.next_check(watched.child, now) <= time.monotonic() + SILENCE
    watched.shared_state.record_crash(0, -9)
    assert watched.shared_state.last_alive(0) == 0.0

"""The shared state of worker processes and supervisor."""

import os
import threading
from collections.abc import Callable

import msgspec
import pytest

from crew.worker.execution.execution import Execution
from crew.worker.shared_state.shared_state import MAX_CRASHES, OVERDUE, SharedState
from tests.support.deliveries import an_execution

# Python 3.12 and later warn of any fork while other threads run; the child here does nothing but write and exit.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_a_child(work: Callable[[], None]) -> None:
    """Call `work` in a forked process that then exits at once."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(9)
    os.waitpid(pid, 0)


def an_execution_of(id: str) -> Execution:
    """Make an execution of the call `id`."""
    execution = an_execution()
    execution.call = msgspec.structs.replace(execution.call, id=id)
    return execution


def crash(shared_state: SharedState, id: str, *, process: int = 0) -> None:
    """Let process number `process` die while it runs the call `id`."""
    shared_state.begin(process, an_execution_of(id))
    shared_state.record_crash(process, -9)


def test_a_call_that_never_crashed_has_no_crashes() -> None:
    shared_state = SharedState(1, 2)
    assert shared_state.crashes("17") == 0


def test_each_crash_while_a_call_runs_is_counted() -> None:
    shared_state = SharedState(2, 2)
    for expected in (1, 2, 3):
        crash(shared_state, "17", process=expected % 2)
        assert shared_state.crashes("17") == expected
    assert shared_state.crashes("18") == 0


def test_each_worker_counts_the_crashes_of_its_own_processes() -> None:
    one, other = SharedState(1, 2), SharedState(1, 2)
    crash(one, "17")
    crash(one, "17")
    crash(other, "17")
    assert (one.crashes("17"), other.crashes("17")) == (2, 1)


@forks
def test_the_supervisor_sees_which_calls_a_dead_process_was_running() -> None:
    shared_state = SharedState(2, 4)
    ended, first, second = (an_execution() for _ in range(3))

    def work() -> None:
        for execution in (ended, first, second):
            shared_state.begin(1, execution)
        shared_state.end(ended)

    in_a_child(work)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(first.call.id) == 0
    shared_state.record_crash(1, -9)
    assert [shared_state.crashes(one.call.id) for one in (ended, first, second)] == [0, 1, 1]


@forks
def test_a_process_sees_the_crashes_of_other_processes() -> None:
    shared_state = SharedState(2, 4)
    execution = an_execution()
    in_a_child(lambda: shared_state.begin(0, execution))
    shared_state.record_crash(0, -9)
    seen = an_execution()

    def look() -> None:
        if shared_state.crashes(execution.call.id) == 1:
            shared_state.begin(1, seen)

    in_a_child(look)
    shared_state.record_crash(1, -9)
    assert shared_state.crashes(seen.call.id) == 1


def test_an_expected_exit_counts_no_crash() -> None:
    shared_state = SharedState(1, 2)
    execution = an_execution()
    shared_state.begin(0, execution)
    shared_state.record_exit(0)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(execution.call.id) == 0


def test_a_crash_is_counted_once() -> None:
    shared_state = SharedState(1, 2)
    execution = an_execution()
    shared_state.begin(0, execution)
    shared_state.record_crash(0, -9)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(execution.call.id) == 1


def test_ending_an_execution_twice_is_allowed() -> None:
    shared_state = SharedState(1, 1)
    first, second = an_execution(), an_execution()
    shared_state.begin(0, first)
    shared_state.end(first)
    shared_state.begin(0, second)
    shared_state.end(first)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(second.call.id) == 1


def test_more_executions_than_slots_are_allowed() -> None:
    shared_state = SharedState(1, 1)
    first, second = an_execution(), an_execution()
    shared_state.begin(0, first)
    shared_state.begin(0, second)
    shared_state.end(second)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(first.call.id) == 1


def test_processes_do_not_overwrite_each_other() -> None:
    shared_state = SharedState(3, 2)
    executions = [[an_execution() for _ in range(2)] for _ in range(3)]
    for process, mine in enumerate(executions):
        for execution in mine:
            shared_state.begin(process, execution)
    shared_state.record_crash(1, -9)
    crashes = [[shared_state.crashes(execution.call.id) for execution in mine] for mine in executions]
    assert crashes == [[0, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("length", [1, 39, 40, 41, 244])
def test_ids_of_any_length_are_distinguished(length: int) -> None:
    shared_state = SharedState(1, 1)
    crash(shared_state, "x" * (length - 1) + "a")
    assert shared_state.crashes("x" * (length - 1) + "a") == 1
    assert shared_state.crashes("x" * (length - 1) + "b") == 0


def test_an_id_may_be_any_text() -> None:
    shared_state = SharedState(1, 1)
    crash(shared_state, "aufträge/ü")
    assert shared_state.crashes("aufträge/ü") == 1


def test_the_oldest_crash_is_forgotten_first() -> None:
    shared_state = SharedState(1, 1)
    for number in range(MAX_CRASHES + 1):
        crash(shared_state, f"{number}")
    assert shared_state.crashes("0") == 0
    assert shared_state.crashes("1") == 1
    assert shared_state.crashes(f"{MAX_CRASHES}") == 1


# --- what runs too long ---------------------------------------------------------------------------------------------


def running(shared_state: SharedState, id: str, *, limit: float | None, process: int = 0) -> Execution:
    """Let process number `process` run the call `id` until `limit`."""
    execution = an_execution_of(id)
    execution.times.limit = limit
    shared_state.begin(process, execution)
    return execution


@forks
def test_the_supervisor_sees_the_limits_of_running_calls() -> None:
    shared_state = SharedState(2, 4)

    def work() -> None:
        running(shared_state, "limited", limit=100.0, process=1)
        running(shared_state, "unlimited", limit=None, process=1)
        shared_state.end(running(shared_state, "ended", limit=50.0, process=1))

    in_a_child(work)
    assert shared_state.limits(1) == [100.0]
    assert shared_state.limits(0) == []


def test_only_calls_past_their_limit_are_overdue() -> None:
    shared_state = SharedState(1, 4)
    late = running(shared_state, "late", limit=100.0)
    for id, limit in (("later", 200.0), ("unlimited", None)):
        running(shared_state, id, limit=limit)
    assert shared_state.overdue(0, 100.0) == []
    assert len(shared_state.overdue(0, 100.1)) == 1
    shared_state.end(late)
    assert shared_state.overdue(0, 100.1) == []


def test_a_new_limit_is_recorded() -> None:
    """An interrupt sets the limit of a call that has none, so that its grace begins."""
    shared_state = SharedState(1, 4)
    execution = running(shared_state, "17", limit=None)
    execution.times.limit = 100.0
    shared_state.note_limit(execution)
    assert shared_state.limits(0) == [100.0]
    shared_state.end(execution)
    shared_state.note_limit(execution)
    assert shared_state.limits(0) == []


def test_only_overdue_calls_are_blamed_for_a_killed_process() -> None:
    shared_state = SharedState(2, 4)
    running(shared_state, "overdue", limit=100.0)
    running(shared_state, "innocent", limit=200.0)
    running(shared_state, "elsewhere", limit=100.0, process=1)
    shared_state.record_kill(0, shared_state.overdue(0, 150.0), -9)
    assert [shared_state.crashes(id) for id in ("overdue", "innocent", "elsewhere")] == [OVERDUE, 0, 0]
    assert shared_state.limits(0) == []
    assert shared_state.limits(1) == [100.0]


def test_an_overdue_call_stays_overdue_after_a_later_crash() -> None:
    shared_state = SharedState(1, 4)
    running(shared_state, "17", limit=100.0)
    shared_state.record_kill(0, shared_state.overdue(0, 150.0), -9)
    crash(shared_state, "17")
    assert shared_state.crashes("17") == OVERDUE


def test_a_call_that_crashed_a_process_may_be_overdue_later() -> None:
    shared_state = SharedState(1, 4)
    crash(shared_state, "17")
    running(shared_state, "17", limit=100.0)
    shared_state.record_kill(0, shared_state.overdue(0, 150.0), -9)
    assert shared_state.crashes("17") == OVERDUE


# --- lost calls -----------------------------------------------------------------------------------------------------


def once(shared_state: SharedState, process: int = 0, *, limit: float | None = None, long: bool = False) -> Execution:
    """Let process number `process` run a call that is acknowledged already."""
    execution = an_execution(persistent=long, long=long)
    execution.times.limit = limit
    shared_state.begin(process, execution)
    return execution


@pytest.mark.parametrize("long", [True, False])
def test_only_calls_that_are_not_redelivered_become_lost_calls(long: bool) -> None:
    shared_state = SharedState(2, 4)
    lost = once(shared_state, 1, long=long)
    shared_state.begin(1, an_execution())
    once(shared_state, 0)
    shared_state.end(once(shared_state, 1))
    assert shared_state.unanswered() == {}
    shared_state.record_crash(1, -11)
    ((slot, lost_call),) = shared_state.unanswered().items()
    assert (lost_call.id, lost_call.reply_to, lost_call.status, lost_call.is_overdue) == (
        lost.call.id,
        "crew.reply.the-client",
        "SIGSEGV",
        False,
    )
    assert shared_state.limits(1) == []
    shared_state.mark_replied(slot)
    assert shared_state.unanswered() == {}


def test_a_lost_call_records_whether_it_was_overdue() -> None:
    shared_state = SharedState(1, 4)
    overdue, innocent = once(shared_state, limit=100.0), once(shared_state, limit=200.0)
    shared_state.record_kill(0, shared_state.overdue(0, 150.0), -9)
    assert {one.id: one.is_overdue for one in shared_state.unanswered().values()} == {
        overdue.call.id: True,
        innocent.call.id: False,
    }


def test_a_lost_call_keeps_its_slot_until_the_reply_is_confirmed() -> None:
    shared_state = SharedState(1, 2)
    lost = once(shared_state)
    shared_state.record_crash(0, -9)
    first, second, third = (once(shared_state) for _ in range(3))
    assert (first.slot is None, second.slot, third.slot) == (False, None, None)
    ((slot, lost_call),) = shared_state.unanswered().items()
    assert lost_call.id == lost.call.id
    shared_state.mark_replied(slot)
    once(shared_state)
    shared_state.record_crash(0, -9)
    assert len(shared_state.unanswered()) == 2


def test_a_second_mark_replied_does_not_clear_the_next_call_in_the_slot() -> None:
    shared_state = SharedState(1, 1)
    once(shared_state)
    shared_state.record_crash(0, -9)
    (slot,) = shared_state.unanswered()
    shared_state.mark_replied(slot)
    execution = once(shared_state)
    shared_state.mark_replied(slot)
    shared_state.record_crash(0, -9)
    assert shared_state.crashes(execution.call.id) == 1


def test_a_reused_slot_has_no_data_of_the_previous_call() -> None:
    shared_state = SharedState(1, 1)
    shared_state.end(once(shared_state))
    shared_state.begin(0, an_execution())
    shared_state.record_crash(0, -9)
    assert shared_state.unanswered() == {}


def test_an_expected_exit_does_not_clear_lost_calls() -> None:
    shared_state = SharedState(1, 2)
    lost = once(shared_state)
    shared_state.record_crash(0, -9)
    once(shared_state)
    shared_state.record_exit(0)
    assert [one.id for one in shared_state.unanswered().values()] == [lost.call.id]


def test_the_exit_status_of_the_last_crash_is_recorded() -> None:
    shared_state = SharedState(1, 1)
    assert shared_state.exit_status("17") == ""
    for code, status in ((3, "exit 3"), (-11, "SIGSEGV")):
        shared_state.begin(0, an_execution_of("17"))
        shared_state.record_crash(0, code)
        assert shared_state.exit_status("17") == status


def test_all_slots_can_be_reused() -> None:
    shared_state = SharedState(1, 3)
    for _ in range(10):
        running = [once(shared_state) for _ in range(3)]
        assert len({execution.slot for execution in running}) == 3
        for execution in running:
            shared_state.end(execution)
            shared_state.end(execution)


def test_a_call_is_running_until_it_ends_or_its_crash_is_recorded() -> None:
    shared_state = SharedState(2, 4)
    assert not shared_state.is_running("17")
    execution = an_execution_of("17")
    shared_state.begin(1, execution)
    assert shared_state.is_running("17")
    shared_state.end(execution)
    assert not shared_state.is_running("17")
    lost = once(shared_state)
    assert shared_state.is_running(lost.call.id)
    shared_state.record_crash(0, -9)
    assert not shared_state.is_running(lost.call.id)


class EndsMeanwhile(Execution):
    """Ends in another thread while its limit is recorded."""

    shared_state: SharedState

    @property
    def due(self) -> float | None:
        """Replaces Execution.due."""
        ending = threading.Thread(target=self.shared_state.end, args=(self,))
        ending.start()
        ending.join(0.1)
        return 5.0


def test_no_limit_is_recorded_for_an_execution_that_ends_at_the_same_time() -> None:
    """Otherwise the supervisor would kill an idle process as stalled."""
    shared_state = SharedState(1, 2)
    execution = an_execution()
    shared_state.begin(0, execution)
    execution.__class__ = EndsMeanwhile
    vars(execution)["shared_state"] = shared_state
    shared_state.note_limit(execution)
    shared_state.end(execution)
    assert shared_state.overdue(0, since=10.0) == []
    assert not shared_state.is_busy(0)


def test_another_call_of_the_same_id_starts_with_no_crashes() -> None:
    """`Client.call(id=)` may give the same id every night."""
    shared_state = SharedState(1, 2)
    nights = [msgspec.structs.replace(an_execution().call, id="nightly", message_id=night) for night in "ab"]
    execution = an_execution()
    execution.call = nights[0]
    shared_state.begin(0, execution)
    shared_state.record_crash(0, -9)
    assert [shared_state.crashes(call.key) for call in nights] == [1, 0]

"""What the supervisor does about a process in which something goes on too long."""

import ctypes
import faulthandler
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew.worker import supervisor as supervisor_module
from crew.worker.child import Child
from crew.worker.execution import Execution
from crew.worker.ledger import OVERDUE, Ledger
from crew.worker.process import DUMP_STACKS, EXIT_DRAINED, EXIT_REFUSED, READY
from crew.worker.supervisor import DUMP_WITHIN, OVERDUE_AFTER, SIGNALS, Supervisor
from tests.unit.deliveries import an_execution
from tests.waiting import eventually

GRACE = 0.1


class PlayedChild(Child):
    """A process that is none: notes what is done to it."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(0, 0, ours)
        self.signals: list[int] = []
        self.kills = 0

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.kills += 1


class Supervised:
    """A supervisor of one child that the test plays."""

    def __init__(self) -> None:
        self.ledger = Ledger(1, 10)
        self.supervisor = a_supervisor(self.ledger)
        self.child = PlayedChild()
        self.supervisor._children = {0: self.child}

    def runs(self, late: float | None) -> Execution:
        """Something whose limit, grace and margin were over `late` seconds ago."""
        execution = an_execution()
        execution.limit = None if late is None else time.monotonic() - late - GRACE - OVERDUE_AFTER
        self.ledger.begin(0, execution)
        return execution

    def look(self) -> None:
        """As in each turn of its loop."""
        self.supervisor._kill_overdue()

    def look_again(self) -> None:
        """When the stacks have been dumped."""
        eventually(lambda: time.monotonic() >= self.child.dump_at + DUMP_WITHIN)
        self.look()


def a_supervisor(ledger: Ledger, run_child: supervisor_module.RunChild | None = None) -> Supervisor:
    """Of one process."""
    return Supervisor(run_child or (lambda *_: EXIT_DRAINED), processes=1, ledger=ledger, drain=0.1, grace=GRACE)


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    """A supervisor and its child; its sockets are closed afterwards."""
    made = Supervised()
    yield made
    made.child.socket.close()
    made.child.theirs.close()


def test_a_process_that_runs_something_too_long_shows_its_stacks_and_is_killed(supervised: Supervised) -> None:
    supervised.runs(late=0.01)
    supervised.look()
    assert (supervised.child.signals, supervised.child.kills) == ([DUMP_STACKS], 0)
    supervised.look()
    assert (supervised.child.signals, supervised.child.kills) == ([DUMP_STACKS], 0), "it has a moment for that"
    supervised.look_again()
    assert supervised.child.kills == 1
    supervised.look_again()
    assert supervised.child.kills == 1


def test_a_process_whose_tasks_have_time_left_is_left_alone(supervised: Supervised) -> None:
    supervised.runs(late=-0.3)
    supervised.runs(late=None)
    supervised.look()
    assert supervised.child.signals == []


def test_a_process_that_acts_while_its_stacks_are_dumped_is_not_killed(supervised: Supervised) -> None:
    execution = supervised.runs(late=0.01)
    supervised.look()
    supervised.ledger.end(execution)
    other = supervised.runs(late=0.01)
    supervised.look_again()
    assert supervised.child.kills == 0, "what is overdue now was not then"
    supervised.ledger.end(other)
    supervised.look()
    assert supervised.child.suspects == []


def test_the_supervisor_wakes_when_something_may_be_overdue(supervised: Supervised) -> None:
    supervised.supervisor._due.clear()
    supervised.runs(late=-0.3 + GRACE)
    assert supervised.supervisor._next_moment() <= 0.3 + GRACE + OVERDUE_AFTER


# --- a real process -------------------------------------------------------------------------------------------------


@pytest.fixture
def _signals_of_the_tests() -> Iterator[None]:
    """A supervisor takes signals for itself."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def freezes() -> None:
    """In C, and no other thread of the process runs meanwhile."""
    until = time.monotonic() + 10
    while time.monotonic() < until:  # a signal ends the sleep
        ctypes.PyDLL(None).sleep(10)


# Python 3.12 and later warn of any fork while other threads run; the children here need none of them.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_a_process_that_is_frozen_in_c_is_killed_and_replaced_and_only_what_froze_it_is_to_blame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(1, 10)
    frozen, innocent = an_execution(), an_execution()
    stacks = tmp_path / "stacks"

    def run_child(number: int, parent: socket.socket) -> int:
        if ledger.crashes(frozen.call.id):
            return EXIT_REFUSED  # the successor ends the test
        with stacks.open("w") as file:
            faulthandler.register(DUMP_STACKS, file=file, all_threads=True)
            frozen.limit = time.monotonic() + 0.05
            ledger.begin(number, frozen)
            ledger.begin(number, innocent)
            parent.send(READY)
            freezes()
        return EXIT_DRAINED

    begin = time.monotonic()
    assert a_supervisor(ledger, run_child).run() == EXIT_REFUSED
    assert time.monotonic() - begin < 5
    assert [ledger.crashes(one.call.id) for one in (frozen, innocent)] == [OVERDUE, 0]
    assert "in freezes" in stacks.read_text()
    assert "is frozen" in caplog.text

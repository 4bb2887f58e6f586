"""The supervisor with real forked processes."""

import ctypes
import errno
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from crew.worker.shared_state.exit_status import EXIT_DRAINED, EXIT_REFUSED, EXIT_REPLACE
from crew.worker.shared_state.messages import DRAIN, DUMP_STACKS, READY, REPLY_LOST_CALLS
from crew.worker.shared_state.shared_state import OVERDUE, SharedState
from crew.worker.supervisor import reload
from crew.worker.supervisor.reload import OldProcess
from crew.worker.supervisor.supervisor import MAX_FAILED_STARTS, SIGNALS, Supervisor
from crew.worker.supervisor.timing import Timing
from tests.support.deliveries import an_execution
from tests.support.links import never


def serves_until_drained(number: int, parent: socket.socket) -> int:
    parent.send(READY)
    parent.settimeout(5)
    return EXIT_DRAINED if parent.recv(8) == DRAIN else EXIT_REFUSED


@pytest.fixture
def _signals_of_the_tests() -> Iterator[None]:
    """Restore the signal handlers that a supervisor has replaced."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def freezes() -> None:
    """Hang in C code without releasing the GIL."""
    until = time.monotonic() + 30
    while time.monotonic() < until:  # a signal ends the sleep
        ctypes.PyDLL(None).sleep(30)


# Python 3.12 and later warn of any fork while other threads run; the children here need none of them.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_a_process_stalled_in_c_code_is_killed_and_only_the_overdue_call_is_blamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared_state = SharedState(1, 10)
    frozen, innocent = an_execution(), an_execution()
    stacks = tmp_path / "stacks"

    def run_child(number: int, parent: socket.socket) -> int:
        if shared_state.crashes(frozen.call.id):
            return EXIT_REFUSED  # the replacement ends the test
        with stacks.open("w") as file:
            faulthandler.register(DUMP_STACKS, file=file, all_threads=True)
            frozen.times.limit = time.monotonic() + 0.05
            shared_state.begin(number, frozen)
            shared_state.begin(number, innocent)
            parent.send(READY)
            freezes()
        return EXIT_DRAINED

    begin = time.monotonic()
    supervisor = Supervisor(run_child, processes=1, shared_state=shared_state, drain=0.1, grace=0.1)
    assert supervisor.run() == EXIT_REFUSED
    assert time.monotonic() - begin < 15
    assert [shared_state.crashes(one.call.id) for one in (frozen, innocent)] == [OVERDUE, 0]
    assert "in freezes" in stacks.read_text()
    assert "worker process stalled, killing it: a task runs on" in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_a_stalled_process_of_older_code_is_killed_after_its_drain_time(caplog: pytest.LogCaptureFixture) -> None:
    """Its shared state is lost with the old supervisor, so its calls are unknown. No reload starts while it runs."""
    ours, theirs = socket.socketpair()
    old = os.fork()
    if old == 0:
        os.setsid()
        time.sleep(20)
        os._exit(0)

    def run_child(number: int, parent: socket.socket) -> int:
        parent.send(READY)
        time.sleep(1.5)
        return EXIT_REFUSED  # ends the test

    begin = time.monotonic()
    left = [OldProcess(old, 0, ours.detach())]
    timing = Timing(kill_margin=0.3, longest_delay=0.1)
    supervisor = Supervisor(
        run_child, processes=1, shared_state=SharedState(1, 10), drain=0.1, grace=0.1, old=left, timing=timing
    )
    assert supervisor.run() == EXIT_REFUSED
    assert time.monotonic() - begin < 15
    assert theirs.recv(8) == DRAIN
    theirs.close()
    assert f"worker process of the old code killed: it did not drain in time pid={old}" in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_the_next_serving_process_is_asked_to_reply_to_lost_calls() -> None:
    shared_state = SharedState(1, 10)
    lost = an_execution(persistent=False)

    def run_child(number: int, parent: socket.socket) -> int:
        if shared_state.unanswered():
            parent.send(READY)
            parent.settimeout(5)
            return EXIT_REFUSED if parent.recv(8) == REPLY_LOST_CALLS else EXIT_DRAINED  # which ends the test
        shared_state.begin(number, lost)
        os.kill(os.getpid(), signal.SIGRTMIN + 3)
        return EXIT_DRAINED

    assert Supervisor(run_child, processes=1, shared_state=shared_state, drain=0.1, grace=0.1).run() == EXIT_REFUSED
    assert [(one.id, one.status) for one in shared_state.unanswered().values()] == [(lost.call.id, "signal 37")]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
@pytest.mark.parametrize("code", [EXIT_DRAINED, EXIT_REPLACE, EXIT_REFUSED])
def test_a_task_that_exits_with_an_expected_exit_code_is_still_a_crash(code: int) -> None:
    """Otherwise a call of `os._exit(0)` would run for ever, and one of `os._exit(78)` would stop the worker."""
    shared_state = SharedState(1, 10)
    call = an_execution()

    def run_child(number: int, parent: socket.socket) -> int:
        parent.send(READY)
        if shared_state.crashes(call.call.id) == 2:
            return EXIT_REFUSED  # ends the test
        shared_state.begin(number, call)
        os._exit(code)

    assert Supervisor(run_child, processes=1, shared_state=shared_state, drain=0.1, grace=0.1).run() == EXIT_REFUSED
    assert (shared_state.crashes(call.call.id), shared_state.exit_status(call.call.id)) == (2, f"exit {code}")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_calls_that_crash_processes_before_they_are_ready_do_not_stop_the_worker() -> None:
    """Calls arrive with the first consumer, and a process is ready with its last."""
    shared_state = SharedState(1, 10)
    call = an_execution()

    def run_child(number: int, parent: socket.socket) -> int:
        if shared_state.crashes(call.call.id) > MAX_FAILED_STARTS:
            return EXIT_REFUSED  # ends the test
        shared_state.begin(number, call)
        os._exit(3)

    supervisor = Supervisor(
        run_child,
        processes=1,
        shared_state=shared_state,
        drain=0.1,
        grace=0.1,
        timing=Timing(first_delay=0.01, longest_delay=0.02),
    )
    assert supervisor.run() == EXIT_REFUSED


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
@pytest.mark.parametrize("together", [False, True])
def test_a_worker_that_is_stopped_during_a_reload_stops(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    """The new supervisor would not know of the signal, and would run on for ever."""

    def is_stopped_during_the_try() -> bool:
        if not together:
            signal.raise_signal(signal.SIGTERM)
        return True

    def reloads(supervisor: Supervisor) -> None:
        install_signal_handlers(supervisor)
        signal.raise_signal(signal.SIGHUP)
        if together:
            signal.raise_signal(signal.SIGTERM)

    install_signal_handlers = Supervisor._install_signal_handlers
    monkeypatch.setattr(Supervisor, "_install_signal_handlers", reloads)
    monkeypatch.setattr(reload, "can_be_served", is_stopped_during_the_try)
    monkeypatch.setattr(reload, "replace_supervisor", never)
    supervisor = Supervisor(serves_until_drained, processes=1, shared_state=SharedState(1, 10), drain=0.1, grace=0.1)
    assert supervisor.run() == EXIT_DRAINED


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_a_stop_signal_that_arrives_just_before_the_exec_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays pending: for the new supervisor, or, as here, for the old one, if the new code cannot be started."""

    def is_stopped_and_fails(_: object) -> NoReturn:
        signal.raise_signal(signal.SIGTERM)
        assert signal.SIGTERM in signal.sigpending()
        raise OSError(errno.ENOENT, "No such file or directory")

    def reloads(supervisor: Supervisor) -> None:
        install_signal_handlers(supervisor)
        signal.raise_signal(signal.SIGHUP)

    install_signal_handlers = Supervisor._install_signal_handlers
    monkeypatch.setattr(Supervisor, "_install_signal_handlers", reloads)
    monkeypatch.setattr(reload, "can_be_served", lambda: True)
    monkeypatch.setattr(reload, "replace_supervisor", is_stopped_and_fails)
    supervisor = Supervisor(serves_until_drained, processes=1, shared_state=SharedState(1, 10), drain=0.1, grace=0.1)
    assert supervisor.run() == EXIT_DRAINED
    assert not signal.sigpending()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("_signals_of_the_tests")
def test_a_fork_that_fails_is_retried_later(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The other processes run on."""
    fork, failures = os.fork, [OSError(errno.ENOMEM, "Cannot allocate memory")]

    def failing_fork() -> int:
        if failures:
            raise failures.pop()
        return fork()

    monkeypatch.setattr(os, "fork", failing_fork)
    supervisor = Supervisor(
        lambda *_: EXIT_REFUSED,
        processes=1,
        shared_state=SharedState(1, 10),
        drain=0.1,
        grace=0.1,
        timing=Timing(longest_delay=0.01),
    )
    assert supervisor.run() == EXIT_REFUSED
    assert "worker process not started, retrying in" in caplog.text

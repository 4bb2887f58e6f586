"""Supervisor: starts N worker processes, watches, restarts, drains and kills them.

It has one thread and no broker connection, so that it can fork at any time. It waits for signals and for messages of
its child processes; everything else follows from the state of the child processes and the clock.
"""

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from typing import Final

from crew.worker.posix import orphans
from crew.worker.shared_state.exit_status import (
    EXIT_BROKEN,
    EXIT_DRAINED,
    EXIT_NOT_STARTED,
    EXIT_REFUSED,
    EXIT_REPLACE,
    describe_exit,
    exit_status_of,
)
from crew.worker.shared_state.messages import DRAIN, INTERRUPT, NEEDS_REPLACEMENT, READY, REPLY_LOST_CALLS
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.supervisor import reload
from crew.worker.supervisor.child_process import ChildProcess
from crew.worker.supervisor.fork import RunChild, fork
from crew.worker.supervisor.reload import OldProcess
from crew.worker.supervisor.stall_detector import StallDetector
from crew.worker.supervisor.timing import DEFAULT, Timing

logger = logging.getLogger(__name__)

STABLE_AFTER: Final = 5.0  # seconds after its start: a process that dies later is restarted without a delay
MAX_FAILED_STARTS: Final = 5  # processes in a row that die before they are ready: then the supervisor exits
EXPECTED_EXITS: Final = (EXIT_DRAINED, EXIT_NOT_STARTED, EXIT_REPLACE, EXIT_REFUSED)  # if the process ran no call

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Keeps `processes` worker processes running.

    Args:
        run_child: called in each forked process with its number and its socket; returns the exit code.
        drain, grace: seconds, as in the worker's options.
        silence: seconds after which a process is killed if its I/O thread has not run.
        old: processes of older code; each is drained when its replacement serves.
        timing: further durations.
    """

    def __init__(
        self,
        run_child: RunChild,
        *,
        processes: int,
        shared_state: SharedState,
        drain: float,
        grace: float,
        silence: float = math.inf,
        old: Sequence[OldProcess] = (),
        timing: Timing = DEFAULT,
    ) -> None:
        self._run_child = run_child
        self._shared_state = shared_state
        self._stall_detector = StallDetector(shared_state, grace=grace, silence=silence)
        self._timing = timing
        self._interrupt_time = grace + timing.kill_margin  # seconds from INTERRUPT to the kill
        self._drain_time = drain + self._interrupt_time  # seconds from DRAIN to the kill
        self._processes = processes
        self._children: dict[int, ChildProcess] = {}
        self._old = [ChildProcess(one.pid, one.number, socket.socket(fileno=one.file)) for one in old]
        self._due = dict.fromkeys(range(processes), 0.0)  # number -> time.monotonic() of its next start
        self._delays = dict.fromkeys(range(processes), 0.0)
        self._failed_starts = 0
        self._exit_code: int | None = None
        self._kill_at: float | None = None
        self._signals: list[int] = []  # received, not yet handled
        self._handling: list[int] = []  # those that are being handled now
        self._adopts_orphans = orphans.are_adopted()

    def run(self) -> int:
        """Supervise until a signal stops it, or until no process can start; returns the exit code."""
        self._install_signal_handlers()
        try:
            while self._exit_code is None or self._children or self._old:
                self._start_due()
                self._wait()
                self._handle_signals()
                self._reap()
                self._kill_late()
                self._stall_detector.check(self._children.values())
        finally:
            signal.set_wakeup_fd(-1)  # else a late signal would be written into the next file with this descriptor
            self._signal_ours.close()
            self._signal_theirs.close()
        return self._exit_code

    # --- steps ------------------------------------------------------------------------------------------------------

    def _install_signal_handlers(self) -> None:
        self._signal_ours, self._signal_theirs = socket.socketpair()
        self._signal_ours.setblocking(False)
        self._signal_theirs.setblocking(False)
        signal.set_wakeup_fd(self._signal_theirs.fileno())
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        reload.release_stop_signals()  # of the supervisor that this one has replaced

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, due in list(self._due.items()):
            if due <= now and self._exit_code is None and not self._is_reloading():
                try:
                    self._start(number)
                except OSError as error:  # no memory, process or descriptor is left; usually for a short time
                    delay = self._timing.longest_delay
                    logger.error("worker process not started, retrying in %g s: %s number=%d", delay, error, number)
                    self._due[number] = now + delay
                else:
                    del self._due[number]

    def _wait(self) -> None:
        with selectors.PollSelector() as poll:  # `select` accepts no descriptor above 1,023
            poll.register(self._signal_ours, selectors.EVENT_READ)
            for child in self._children.values():
                poll.register(child, selectors.EVENT_READ, child)
            readable = [key.data for key, _ in poll.select(self._next_moment())]
        for child in readable:
            if child is None:
                self._signal_ours.recv(4096)
            else:
                self._read_messages(child)

    def _handle_signals(self) -> None:
        """Reload on SIGHUP; each SIGTERM or SIGINT goes one step further: drain, interrupt, kill."""
        self._handling, self._signals = self._signals, []
        while self._handling:
            number = self._handling.pop(0)
            if number == signal.SIGHUP:
                self._reload()
            elif self._exit_code is None:
                pids = ", ".join(str(child.pid) for child in self._children.values())
                logger.info("worker stopping: finishing the running tasks pids=%s", pids)
                self._stop(EXIT_DRAINED)
            elif self._kill_at is not None and self._kill_at > time.monotonic() + self._interrupt_time:
                logger.info("worker stopping at once: interrupting the running tasks")
                self._send_to_all(INTERRUPT)
                self._kill_at = time.monotonic() + self._interrupt_time
            else:
                logger.warning("worker killed: killing %d processes", len(self._children))
                self._kill_at = 0.0

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._on_exit(child, os.waitstatus_to_exitcode(status))
        for child in list(self._old):
            if os.waitpid(child.pid, os.WNOHANG)[0]:
                self._old.remove(child)
                child.socket.close()
                child.kill()
        if self._adopts_orphans:
            orphans.reap({child.pid for child in self._all()})

    def _kill_late(self) -> None:
        """Kill the processes that had to exit by now."""
        now = time.monotonic()
        for child in self._old:
            if now >= child.kill_at:
                logger.error("worker process of the old code killed: it did not drain in time pid=%d", child.pid)
                child.kill()
        if self._kill_at is not None and now >= self._kill_at:
            for child in self._all():
                child.kill()

    # --- child processes --------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        inherited = (self._signal_ours, self._signal_theirs, *(child.socket for child in self._all()))
        self._children[number] = child = fork(number, self._run_child, closing=inherited, signals=SIGNALS)
        logger.debug("worker process started pid=%d number=%d", child.pid, number)

    def _read_messages(self, child: ChildProcess) -> None:
        try:
            messages = child.socket.recv(64)
        except OSError:
            messages = b""
        if READY in messages:
            child.is_ready = True
            self._failed_starts = 0
            self._reply_lost_calls()
            for old in self._old:
                if old.number == child.number or old.number not in self._delays:
                    old.send(DRAIN)
                    old.kill_at = min(old.kill_at, time.monotonic() + self._drain_time)
        if NEEDS_REPLACEMENT in messages:
            self._replace(child)

    def _replace(self, child: ChildProcess) -> None:
        """Start a replacement for `child`, which runs on until its tasks have ended.

        Each place has two numbers; the replacement gets the one that `child` does not have. If a process with that
        number still runs, the replacement is started when `child` has ended.
        """
        other = (child.number + self._processes) % (2 * self._processes)
        if other not in self._children:
            child.has_replacement = True
            self._due[other] = 0.0

    def _on_exit(self, child: ChildProcess, code: int) -> None:
        del self._children[child.number]
        child.socket.close()
        child.kill()  # the rest of its process group
        was_busy = self._shared_state.is_busy(child.number)
        is_expected = code in EXPECTED_EXITS and not was_busy  # if busy, a task ended it, for example with `os._exit`
        if is_expected:
            self._shared_state.record_exit(child.number)
        elif child.overdue:
            self._shared_state.record_kill(child.number, child.overdue, code)
        else:
            self._shared_state.record_crash(child.number, code)
            logger.error("worker process died: it %s pid=%d", describe_exit(exit_status_of(code)), child.pid)
        self._reply_lost_calls()
        if self._exit_code is not None:
            return
        if code == EXIT_REFUSED and is_expected:
            self._stop(EXIT_REFUSED)
            return
        if child.has_replacement:
            return
        if code != EXIT_NOT_STARTED:  # the cause may be outside of the worker, and end: retry without a limit
            self._failed_starts += not (child.is_ready or was_busy)  # a call may crash it before it sends READY
        if self._failed_starts >= MAX_FAILED_STARTS:
            logger.error(
                "worker cannot start: %d processes in a row died before they were ready; see the log above",
                self._failed_starts,
            )
            self._stop(EXIT_BROKEN)
            return
        self._due[child.number] = time.monotonic() + self._delay(child, code)

    def _reply_lost_calls(self) -> None:
        """Ask one serving process to reply to lost calls; if none serves, the next one that becomes ready is asked."""
        serving = [child for child in self._children.values() if child.is_ready]
        if serving and self._shared_state.unanswered():
            serving[0].send(REPLY_LOST_CALLS)

    def _delay(self, child: ChildProcess, code: int) -> float:
        """Seconds until the restart: 0 after the first death or if a task caused it, more for each that follows."""
        if child.is_ready and (child.overdue or code == EXIT_REPLACE):
            return 0.0
        place = child.number % self._processes
        was_stable = time.monotonic() - child.started >= STABLE_AFTER and code != EXIT_NOT_STARTED
        previous = self._delays[place]
        first, longest = self._timing.first_delay, self._timing.longest_delay
        delay = 0.0 if was_stable else min(longest, max(first, previous * 2) if previous else 0.0)
        self._delays[place] = delay or first / 2
        return delay

    # --- reloading --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Replace the supervisor by the code that is on disk now, if that code can be served."""
        if self._exit_code is not None or self._old:
            logger.warning("reload ignored: the worker is %s", "reloading" if self._exit_code is None else "stopping")
        elif (reason := reload.why_impossible()) is not None:
            logger.error("reload refused: %s", reason)
        elif not reload.can_be_served():
            logger.error("reload failed: the new code cannot be served; the old code keeps running")
        else:
            reload.hold_stop_signals()
            try:
                self._be_replaced()
            finally:
                reload.release_stop_signals()

    def _be_replaced(self) -> None:
        """Start the new code in this process. Returns only if a signal has stopped this worker, or on an error."""
        if any(number != signal.SIGHUP for number in (*self._handling, *self._signals)):  # while the code was tried
            logger.warning("reload canceled: the worker is stopping")
            return
        logger.info("reloading: the new code can be served")
        children = [(one.pid, one.number % self._processes, one.socket) for one in self._children.values()]
        try:
            reload.replace_supervisor(children)
        except OSError as error:
            signal.signal(signal.SIGHUP, self._on_signal)
            logger.error("reload failed: the new code cannot be started: %s; the old code keeps running", error)

    def _is_reloading(self) -> bool:
        """Whether a process of the new code does not serve yet; the next one is started after it is ready."""
        return bool(self._old) and any(not child.is_ready for child in self._children.values())

    def _all(self) -> list[ChildProcess]:
        return [*self._children.values(), *self._old]

    # --- stopping ---------------------------------------------------------------------------------------------------

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._kill_at = time.monotonic() + self._drain_time
        self._send_to_all(DRAIN)

    def _send_to_all(self, message: bytes) -> None:
        for child in self._all():
            child.send(message)

    def _next_moment(self) -> float:
        """Seconds until the next restart, kill or stall check is due."""
        now = time.monotonic()
        moments = list(self._due.values()) if self._exit_code is None and not self._is_reloading() else []
        if self._kill_at is not None:
            moments.append(max(self._kill_at, now + 0.1))
        moments += [self._stall_detector.next_check(child, now) for child in self._children.values()]
        return max(0.0, min([now + self._timing.longest_delay, *moments]) - now)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

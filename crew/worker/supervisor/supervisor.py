"""N worker processes: start, watch, restart, drain, kill.

The supervisor has one thread and no AMQP, so that it can fork at any time. It waits for signals and for its
children's words; everything else follows from the state of its children and the clock.
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
from crew.worker.posix.process_end import EXIT_TIMEOUT
from crew.worker.process import (
    DRAIN,
    EXIT_BROKEN,
    EXIT_DRAINED,
    EXIT_NOT_STARTED,
    EXIT_REFUSED,
    EXIT_REPLACE,
    INTERRUPT,
    NEEDS_REPLACEMENT,
    READY,
    REPLY_LOST_CALLS,
)
from crew.worker.shared_state.exit_status import describe_exit, exit_status_of
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.shutdown import FLUSH_TIMEOUT
from crew.worker.supervisor import reload
from crew.worker.supervisor.child_process import ChildProcess
from crew.worker.supervisor.fork import RunChild, fork
from crew.worker.supervisor.reload import OldProcess
from crew.worker.supervisor.stall_detector import StallDetector

logger = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.1  # seconds before a process that died young is started again; doubles
LONGEST_DELAY: Final = 5.0
GROWN_UP: Final = 5.0  # seconds after which the death of a process says nothing about the next
MAX_STILLBORN: Final = 5  # processes in a row that die before they are ready: then nothing can start
# Of a process that runs nothing any longer.
ON_PURPOSE: Final = (EXIT_DRAINED, EXIT_NOT_STARTED, EXIT_REPLACE, EXIT_REFUSED)
KILL_MARGIN: Final = 3.0  # seconds after every deadline that a process keeps by itself

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Keeps `processes` children alive.

    Args:
        run_child: called in each forked child with its number and its socket; returns the exit code.
        drain, grace: seconds, as the worker's options have them.
        silence: seconds after which a process whose I/O thread does not run is killed.
        left: processes of older code; each is drained when its successor serves.
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
        left: Sequence[OldProcess] = (),
    ) -> None:
        self._run_child = run_child
        self._shared_state = shared_state
        self._stall_detector = StallDetector(shared_state, grace=grace, silence=silence)
        self._hurried_patience = grace + FLUSH_TIMEOUT + EXIT_TIMEOUT + KILL_MARGIN
        self._patience = drain + self._hurried_patience
        self._processes = processes
        self._children: dict[int, ChildProcess] = {}
        self._leaving = [ChildProcess(one.pid, one.number, socket.socket(fileno=one.file)) for one in left]
        self._due = dict.fromkeys(range(processes), 0.0)  # number -> time.monotonic() of its next start
        self._delays = dict.fromkeys(range(processes), 0.0)
        self._stillborn = 0
        self._exit_code: int | None = None
        self._kill_at: float | None = None
        self._signals: list[int] = []
        self._told: list[int] = []  # those of them that are obeyed now
        self._gets_orphans = orphans.are_ours()

    def run(self) -> int:
        """Supervise until told to stop, or until nothing can start; returns the exit code."""
        self._listen()
        try:
            while self._exit_code is None or self._children or self._leaving:
                self._start_due()
                self._wait()
                self._obey()
                self._reap()
                self._enforce()
                self._stall_detector.look(self._children.values())
        finally:
            signal.set_wakeup_fd(-1)  # a signal that comes now would be written into whatever has the number next
            self._signal_ours.close()
            self._signal_theirs.close()
        return self._exit_code

    # --- steps ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._signal_ours, self._signal_theirs = socket.socketpair()
        self._signal_ours.setblocking(False)
        self._signal_theirs.setblocking(False)
        signal.set_wakeup_fd(self._signal_theirs.fileno())
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, due in list(self._due.items()):
            if due <= now and self._exit_code is None and not self._is_reloading():
                try:
                    self._start(number)
                except OSError as error:  # no memory, no process, no descriptor left: for a moment
                    logger.error("process number %d cannot be started, in %g s again: %s", number, LONGEST_DELAY, error)
                    self._due[number] = now + LONGEST_DELAY
                else:
                    del self._due[number]

    def _wait(self) -> None:
        with selectors.PollSelector() as poll:  # `select` cannot wait for descriptors from 1,024 on
            poll.register(self._signal_ours, selectors.EVENT_READ)
            for child in self._children.values():
                poll.register(child, selectors.EVENT_READ, child)
            readable = [key.data for key, _ in poll.select(self._next_moment())]
        for child in readable:
            if child is None:
                self._signal_ours.recv(4096)
            else:
                self._hear(child)

    def _obey(self) -> None:
        """Each SIGTERM or SIGINT goes one step further: drain, hurry, kill."""
        self._told, self._signals = self._signals, []
        while self._told:
            number = self._told.pop(0)
            if number == signal.SIGHUP:
                self._reload()
            elif self._exit_code is None:
                logger.info(
                    "stopping: processes are drained: %s", ", ".join(str(c.pid) for c in self._children.values())
                )
                self._stop(EXIT_DRAINED)
            elif self._kill_at is not None and self._kill_at > time.monotonic() + self._hurried_patience:
                logger.info("stopping now: what runs is interrupted")
                self._tell_all(INTERRUPT)
                self._kill_at = time.monotonic() + self._hurried_patience
            else:
                logger.warning("killing %d processes", len(self._children))
                self._kill_at = 0.0

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._on_exit(child, os.waitstatus_to_exitcode(status))
        for child in list(self._leaving):
            if os.waitpid(child.pid, os.WNOHANG)[0]:
                self._leaving.remove(child)
                child.socket.close()
                child.kill()
        if self._gets_orphans:
            orphans.reap({child.pid for child in self._everybody()})

    def _enforce(self) -> None:
        now = time.monotonic()
        for child in self._leaving:
            if now >= child.kill_at:
                logger.error("process %d of the old code is killed: it was told to end, and has not", child.pid)
                child.kill()
        if self._kill_at is not None and now >= self._kill_at:
            for child in self._everybody():
                child.kill()

    # --- children ---------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        inherited = (self._signal_ours, self._signal_theirs, *(child.socket for child in self._everybody()))
        self._children[number] = child = fork(number, self._run_child, closing=inherited, signals=SIGNALS)
        logger.debug("%r started", child)

    def _hear(self, child: ChildProcess) -> None:
        try:
            words = child.socket.recv(64)
        except OSError:
            words = b""
        if READY in words:
            child.is_ready = True
            self._stillborn = 0
            self._have_buried()
            for predecessor in self._leaving:
                if predecessor.number == child.number or predecessor.number not in self._delays:
                    predecessor.tell(DRAIN)
                    predecessor.kill_at = min(predecessor.kill_at, time.monotonic() + self._patience)
        if NEEDS_REPLACEMENT in words:
            self._replace(child)

    def _replace(self, child: ChildProcess) -> None:
        """Start another process in place of `child`, which runs on until its tasks have ended.

        The other one has the second number of this place, or again the first. Where that process runs on, too, the
        other one is started when `child` has ended.
        """
        other = (child.number + self._processes) % (2 * self._processes)
        if other not in self._children:
            child.has_successor = True
            self._due[other] = 0.0

    def _on_exit(self, child: ChildProcess, code: int) -> None:
        del self._children[child.number]
        child.socket.close()
        child.kill()  # what it left behind in its group
        was_busy = self._shared_state.is_busy(child.number)
        is_on_purpose = code in ON_PURPOSE and not was_busy  # else a task has ended it, with `os._exit` say
        if is_on_purpose:
            self._shared_state.record_exit(child.number)
        elif child.overdue:
            self._shared_state.record_kill(child.number, child.overdue, code)
        else:
            self._shared_state.record_crash(child.number, code)
            logger.error("process %d %s", child.pid, describe_exit(exit_status_of(code)))
        self._have_buried()
        if self._exit_code is not None:
            return
        if code == EXIT_REFUSED and is_on_purpose:
            self._stop(EXIT_REFUSED)
            return
        if child.has_successor:
            return
        if code != EXIT_NOT_STARTED:  # that may be mended outside of the worker: it is tried for ever
            self._stillborn += not (child.is_ready or was_busy)  # what takes a call may die of it before it says READY
        if self._stillborn >= MAX_STILLBORN:
            logger.error("nothing can start: %d processes in a row died before they were ready", self._stillborn)
            self._stop(EXIT_BROKEN)
            return
        self._due[child.number] = time.monotonic() + self._delay(child, code)

    def _have_buried(self) -> None:
        """One process that serves is to tell the callers of what has died; else the next one that does."""
        serving = [child for child in self._children.values() if child.is_ready]
        if serving and self._shared_state.unanswered():
            serving[0].tell(REPLY_LOST_CALLS)

    def _delay(self, child: ChildProcess, code: int) -> float:
        """At once for the first death, and where a task is to blame; later for each that follows soon."""
        if child.is_ready and (child.overdue or code == EXIT_REPLACE):
            return 0.0
        place = child.number % self._processes
        has_served = time.monotonic() - child.started >= GROWN_UP and code != EXIT_NOT_STARTED
        previous = self._delays[place]
        delay = 0.0 if has_served else min(LONGEST_DELAY, max(FIRST_DELAY, previous * 2) if previous else 0.0)
        self._delays[place] = delay or FIRST_DELAY / 2
        return delay

    # --- reloading --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Go on with the code as it is on disk now, where it can be served."""
        if self._exit_code is not None or self._leaving:
            logger.warning("a reload is not begun: the worker is %s", "stopping" if self._exit_code else "reloading")
        elif (reason := reload.impossible()) is not None:
            logger.error("reload refused: %s", reason)
        elif not reload.can_be_served():
            logger.error("the new code cannot be served: the old goes on")
        elif any(number != signal.SIGHUP for number in (*self._told, *self._signals)):  # while the code was tried
            logger.warning("a reload is not finished: the worker was told to stop meanwhile")
        else:
            logger.info("reloading: the new code can be served")
            left = [(one.pid, one.number % self._processes, one.socket) for one in self._children.values()]
            try:
                reload.replace_supervisor(left)
            except OSError as error:
                signal.signal(signal.SIGHUP, self._on_signal)
                logger.error("the new code cannot be started, the old goes on: %s", error)

    def _is_reloading(self) -> bool:
        """Whether a process of new code has been started that does not serve yet: the next waits for it."""
        return bool(self._leaving) and any(not child.is_ready for child in self._children.values())

    def _everybody(self) -> list[ChildProcess]:
        return [*self._children.values(), *self._leaving]

    # --- stopping ---------------------------------------------------------------------------------------------------

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._kill_at = time.monotonic() + self._patience
        self._tell_all(DRAIN)

    def _tell_all(self, word: bytes) -> None:
        for child in self._everybody():
            child.tell(word)

    def _next_moment(self) -> float:
        """Seconds until there is something to do by the clock."""
        now = time.monotonic()
        moments = list(self._due.values()) if self._exit_code is None and not self._is_reloading() else []
        if self._kill_at is not None:
            moments.append(max(self._kill_at, now + 0.1))
        moments += [self._stall_detector.next_look(child, now) for child in self._children.values()]
        return max(0.0, min([now + LONGEST_DELAY, *moments]) - now)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

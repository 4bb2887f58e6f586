"""One worker process, seen from its supervisor."""

import contextlib
import logging
import math
import os
import signal
import socket
import time

logger = logging.getLogger(__name__)


class ChildProcess:
    """A forked process, the leader of its own session and process group.

    Args:
        number: of the process, in its supervisor and in the shared state.
        ours: the supervisor's end of the socket pair.
    """

    def __init__(self, pid: int, number: int, ours: socket.socket) -> None:
        self.pid = pid
        self.number = number
        self.socket = ours
        self.started = time.monotonic()
        self.is_ready = False
        self.has_replacement = False  # it drains and exits by itself; another process is started in its place
        self.suspects: list[bytes] = []  # keys of the calls that were overdue when its stacks were dumped
        self.suspected_at = 0.0  # time.monotonic() of that dump
        self.stalled_at = 0.0  # time.monotonic() of the stack dump because its I/O thread has not run; or 0.0
        self.kill_at = math.inf  # time.monotonic(): when a process of older code, which drains, is killed
        self.overdue: list[bytes] = []  # keys of the calls that it was killed for

    def __repr__(self) -> str:
        return f"<ChildProcess {self.number}: pid {self.pid}, {'ready' if self.is_ready else 'not ready'}>"

    def fileno(self) -> int:
        """File descriptor of the socket, so that selectors accept this object."""
        return self.socket.fileno()

    def send(self, message: bytes) -> None:
        """Send one of `shared_state.messages`; a process that has ended is ignored, and reaped soon."""
        try:
            self.socket.send(message)
        except OSError as error:
            logger.debug("message to worker process not sent: %s pid=%d message=%r", error, self.pid, message)

    def signal(self, number: int) -> None:
        """Send a signal to this process only, not to its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill its process group: the process and everything that it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            logger.debug("process group has ended already: pid=%d", self.pid)

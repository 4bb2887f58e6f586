"""One worker process, as its supervisor knows it."""

import contextlib
import logging
import math
import os
import signal
import socket
import time

logger = logging.getLogger(__name__)


class ChildProcess:
    """A forked process that leads a session of its own.

    Args:
        number: of the process in its supervisor and in the ledger.
        ours: the supervisor's end of the socket pair.
    """

    def __init__(self, pid: int, number: int, ours: socket.socket) -> None:
        self.pid = pid
        self.number = number
        self.socket = ours
        self.started = time.monotonic()
        self.is_ready = False
        self.has_successor = False  # it ends by itself, and another process has taken its place
        self.suspects: list[bytes] = []  # keys of what had gone on too long when its stacks were dumped
        self.suspected_at = 0.0  # time.monotonic()
        self.silent_at = 0.0  # time.monotonic() of the dump of its stacks, as its I/O thread has not run; or 0.0
        self.kill_at = math.inf  # time.monotonic(): a process of older code was told to end, and must have by then
        self.overdue: list[bytes] = []  # keys of what it was killed for

    def __repr__(self) -> str:
        return f"<ChildProcess {self.number}: pid {self.pid}, {'ready' if self.is_ready else 'not ready'}>"

    def fileno(self) -> int:
        """For `select`."""
        return self.socket.fileno()

    def tell(self, word: bytes) -> None:
        """Send a word; a child that is gone is reaped soon."""
        try:
            self.socket.send(word)
        except OSError:
            logger.debug("process %d cannot be told", self.pid)

    def signal(self, number: int) -> None:
        """Send it, and nothing that it started, a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with everything that it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            logger.debug("process group %d is gone", self.pid)

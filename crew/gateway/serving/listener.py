"""A listening socket that accepts only as many connections as the process may open files.

At that limit Tornado would retry at once, without end, and log a traceback each time. No file would be left to
reconnect to the broker or the job store. This socket closes a connection that waits for its client to make room for a
new one. If there is none, the new connection is accepted when another one has been closed.

TCP keepalive finds clients that vanish without closing their connection, for example with their network. Without it, a
request that waits for a job without a time limit would stay open for ever.
"""

import contextlib
import functools
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tornado.ioloop import IOLoop

logger = logging.getLogger(__name__)

SPARE: Final = 64  # files kept free for broker, job store and logs, which may be reopened; an eighth of a small limit
PAUSE: Final = 0.2  # seconds until the next check whether a connection has been closed
WARNING_INTERVAL: Final = 60.0  # seconds
IDLE: Final = 60  # seconds without a packet until the first TCP keepalive probe
PROBE_INTERVAL: Final = 15  # seconds
PROBES: Final = 4  # without an answer: then the connection is closed, two minutes after the last packet


def raise_open_files_limit() -> int:
    """Raise this process's limit of open files (each connection is one) to the maximum of the system; return it.

    Most systems start with 1,024 because of programs that use select(2); that would limit the requests at a time.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses the maximum that it reports
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


class Listener(socket.socket):
    """Takes over the listening socket `bound`.

    Args:
        bound: a listening socket; unusable afterwards.
        make_room: closes connections that wait for their clients; returns whether it closed any.
    """

    def __init__(self, bound: socket.socket, *, make_room: Callable[[], bool] = lambda: False) -> None:
        super().__init__(fileno=bound.detach())
        self._make_room = make_room
        self.setblocking(False)
        self._enable_keepalive()
        self._max_files = _max_open_files()
        self._warned_at = -WARNING_INTERVAL  # time.monotonic()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection.

        Raises:
            BlockingIOError: no connection is waiting, or there is no room for it.
        """
        if self._is_full() and not (self._make_room() and not self._is_full()):
            self._pause()
            raise BlockingIOError
        return super().accept()

    def _enable_keepalive(self) -> None:
        """Set TCP keepalive; accepted connections inherit these options of the listening socket."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", PROBE_INTERVAL), ("TCP_KEEPCNT", PROBES)):
            if hasattr(socket, name):  # some systems lack it, or call it otherwise: then the system's value counts
                self.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _is_full(self) -> bool:
        """Whether too many files are open: a new file gets the lowest free number."""
        try:
            number = os.dup(self.fileno())
        except OSError:
            return True
        os.close(number)
        return number >= self._max_files

    def _pause(self) -> None:
        """Stop accepting for `PAUSE` seconds."""
        loop = IOLoop.current()
        loop.update_handler(self, 0)
        loop.call_later(PAUSE, functools.partial(self._resume, loop))
        if time.monotonic() - self._warned_at >= WARNING_INTERVAL:
            self._warned_at = time.monotonic()
            logger.warning(
                "too many open files: new connections wait until others are closed open_files=%d; raise the limit of "
                "this process (ulimit -n, LimitNOFILE= of systemd)",
                self._max_files,
            )

    def _resume(self, loop: IOLoop) -> None:
        if self.fileno() != -1:  # not closed meanwhile
            loop.update_handler(self, IOLoop.READ)


def _max_open_files() -> int:
    """The number of open files from which on new connections have to wait."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(SPARE, limit // 8)

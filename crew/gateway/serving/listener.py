"""A listening socket that takes no more connections than the process may have files.

At the limit Tornado would try again at once, for ever, with a traceback each time; and neither the broker nor the job
store could be connected to again. Here a new connection takes the place of one that waits for its client; where there
is none, it waits to be accepted until another has been closed.

A client that vanishes without a word, as a host that loses its network does, is looked for: a request that waits for a
job without an end would be kept for ever.
"""

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

SPARE: Final = 64  # files for broker, job store and logs, which may have to be opened again; an eighth of few
PAUSE: Final = 0.2  # seconds until it is looked whether somebody has left
TELL_EVERY: Final = 60.0  # seconds
IDLE: Final = 60  # seconds of silence until a client is asked whether he is there, by a packet that he does not see
PROBE_EVERY: Final = 15  # seconds
PROBES: Final = 4  # that remain without an answer: then he has gone, two minutes after his last word


class Listener(socket.socket):
    """In place of `bound`, which is closed by it.

    Args:
        bound: a listening socket.
        make_room: closes connections that wait for their clients; returns whether there were any.
    """

    def __init__(self, bound: socket.socket, *, make_room: Callable[[], bool] = lambda: False) -> None:
        super().__init__(fileno=bound.detach())
        self._make_room = make_room
        self.setblocking(False)
        self._look_for_clients()
        self._most = _most_files()
        self._told = -TELL_EVERY  # time.monotonic()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises BlockingIOError where there is none, or no place for it."""
        if self._is_full() and not (self._make_room() and not self._is_full()):
            self._pause()
            raise BlockingIOError
        return super().accept()

    def _look_for_clients(self) -> None:
        """Each connection that is accepted has these options of the listening socket."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", PROBE_EVERY), ("TCP_KEEPCNT", PROBES)):
            if hasattr(socket, name):  # not everywhere, or not by this name: then the system decides
                self.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _is_full(self) -> bool:
        """Whether too many files are open: the number of a new one is the lowest that is free."""
        try:
            number = os.dup(self.fileno())
        except OSError:
            return True
        os.close(number)
        return number >= self._most

    def _pause(self) -> None:
        loop = IOLoop.current()
        loop.update_handler(self, 0)
        loop.call_later(PAUSE, functools.partial(self._go_on, loop))
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            logger.warning(
                "%d files are open, and new connections wait until some are closed: let this process have more "
                "(ulimit -n, LimitNOFILE= of systemd)",
                self._most,
            )

    def _go_on(self, loop: IOLoop) -> None:
        if self.fileno() != -1:  # else it was closed meanwhile
            loop.update_handler(self, IOLoop.READ)


def _most_files() -> int:
    """How many there may be, before connections have to wait."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most - min(SPARE, most // 8)

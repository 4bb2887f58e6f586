"""SIGHUP: the same command line with new code, while the processes of the old code go on.

The supervisor first tries the new code in a process of its own, which loads it and ends before it serves anything. Only
where that succeeds it replaces itself (`exec`): its children stay its children, it keeps their sockets, and drains one
after another as soon as its successor serves.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from typing import Final, NoReturn

import msgspec

from crew import settings

logger = logging.getLogger(__name__)

TRY: Final = "try"  # load the code, say whether it can be served, and end
TRY_TIMEOUT: Final = 60.0  # seconds


class Left(msgspec.Struct, frozen=True):
    """A process of the old code.

    Attributes:
        number: of the process in its supervisor.
        file: descriptor of the supervisor's end of its socket.
    """

    pid: int
    number: int
    file: int


def read_state(state: str | None) -> list[Left]:
    """The processes that the supervisor of the old code has left."""
    return [] if state in (None, TRY) else msgspec.json.decode(state or "[]", type=list[Left])


def can_be_served() -> bool:
    """Whether the code, as it is on disk now, loads and could be served; what is wrong with it is on stderr."""
    try:
        tried = subprocess.run(
            _command(),
            env=settings.environment_for_reload(TRY),
            stdin=subprocess.DEVNULL,
            timeout=TRY_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.error("the new code cannot be tried: %s", error)
        return False
    return tried.returncode == 0


def replace_supervisor(left: Iterable[tuple[int, int, socket.socket]]) -> NoReturn:
    """Go on as the same process with new code; `left` are pid, number and socket of the children."""
    state = []
    for pid, number, ours in left:
        ours.set_inheritable(True)
        state.append(Left(pid, number, ours.fileno()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # survives the exec, where a second one would end us
    sys.stdout.flush()
    sys.stderr.flush()
    command = _command()
    os.execve(command[0], command, settings.environment_for_reload(msgspec.json.encode(state).decode()))


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]

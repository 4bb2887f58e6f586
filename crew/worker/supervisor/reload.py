"""SIGHUP: the same command line with new code, while the processes of the old code go on.

The supervisor first tries the new code in a process of its own, which loads it and ends before it serves anything. Only
where that succeeds it replaces itself (`exec`): its children stay its children, it keeps their sockets, and drains one
after another as soon as its successor serves.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from crew import settings
from crew.worker.posix import stdio

logger = logging.getLogger(__name__)

TRY: Final = "try"  # load the code, say whether it can be served, and end
TRY_TIMEOUT: Final = 60.0  # seconds
CAN_BE_SERVED: Final = 79  # exit status of the process that tries: one that never comes to serve would end with 0


class OldProcess(msgspec.Struct, frozen=True):
    """A process of the old code.

    Attributes:
        number: of the process in its supervisor.
        file: descriptor of the supervisor's end of its socket.
    """

    pid: int
    number: int
    file: int


def read_state(state: str | None) -> list[OldProcess]:
    """The processes that the supervisor of the old code has left."""
    return [] if state in (None, TRY) else msgspec.json.decode(state or "[]", type=list[OldProcess])


def impossible() -> str | None:
    """Why the command line cannot be run a second time; None where it can."""
    if getattr(sys.modules["__main__"], "__file__", None) == "<stdin>":  # as Python calls it
        return "the code came from standard input and cannot be read again: stop this worker and start it anew"
    return None


def can_be_served() -> bool:
    """Whether the code, as it is on disk now, loads and could be served; what is wrong with it is on stderr."""
    try:
        tried = subprocess.run(
            _command(),
            cwd=_FOLDER,
            env=settings.environment_for_reload(TRY),
            stdin=subprocess.DEVNULL,
            timeout=TRY_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.error("the new code cannot be tried: %s", error)
        return False
    if tried.returncode == 0:
        logger.error("the new code ends without serving tasks")
    return tried.returncode == CAN_BE_SERVED


def replace_supervisor(left: Iterable[tuple[int, int, socket.socket]]) -> NoReturn:
    """Go on as the same process with new code; `left` are pid, number and socket of the children.

    Raises:
        OSError: that is not possible.
    """
    if _FOLDER is not None:
        os.chdir(_FOLDER)
    state = []
    for pid, number, ours in left:
        ours.set_inheritable(True)
        state.append(OldProcess(pid, number, ours.fileno()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # survives the exec, where a second one would end us
    stdio.flush()
    command = _command()
    os.execve(command[0], command, settings.environment_for_reload(msgspec.json.encode(state).decode()))


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _start_folder() -> Path | None:
    """The folder in which the command was given: the script may have changed it since, even before it imported crew.

    Python makes the path of the script absolute when it starts: what stands before the path as given is the folder.
    With `python -m` the folder is the first that modules are looked for in, unless that is switched off (`-P`).
    """
    main = sys.modules["__main__"]
    file, given = getattr(main, "__file__", None) or "", sys.argv[0] if sys.argv else ""
    given = given.removeprefix("./")
    if given and not Path(given).is_absolute() and file.endswith(f"/{given}"):
        return Path(file.removesuffix(given))
    if "-m" in sys.orig_argv and sys.path and not sys.flags.safe_path:
        first = Path(sys.path[0])
        if first.is_absolute() and first.is_dir():
            return first
    with contextlib.suppress(OSError):  # it was deleted
        return Path.cwd()
    return None


_FOLDER: Final = _start_folder()

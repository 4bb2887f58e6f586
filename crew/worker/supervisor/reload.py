"""Reload on SIGHUP: run the same command line with new code, without interrupting the running tasks.

The supervisor first tries the new code in a separate process, which loads it and exits before it serves a task. If that
succeeds, the supervisor replaces itself (`exec`). It keeps its child processes and their sockets, and drains each old
process as soon as its replacement serves.
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

TRY: Final = "try"  # load the code, report whether it can be served, and exit
TRY_TIMEOUT: Final = 60.0  # seconds
STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
CAN_BE_SERVED: Final = 79  # exit status after a successful try; a script that never calls `run()` exits with 0


class OldProcess(msgspec.Struct, frozen=True):
    """A worker process that runs the old code.

    Attributes:
        number: of the process in its supervisor.
        file: descriptor of the supervisor's end of its socket pair.
    """

    pid: int
    number: int
    file: int


def read_state(state: str | None) -> list[OldProcess]:
    """Decode the old processes from the environment that `replace_supervisor` set."""
    return [] if state in (None, TRY) else msgspec.json.decode(state or "[]", type=list[OldProcess])


def why_impossible() -> str | None:
    """Why the command line cannot be run a second time; None if it can."""
    if getattr(sys.modules["__main__"], "__file__", None) == "<stdin>":  # Python's name for it
        return "the code came from standard input and cannot be read again; stop this worker and start a new one"
    return None


def can_be_served() -> bool:
    """Whether the code that is on disk now loads and can be served; errors in it are written to stderr."""
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
        logger.error("reload failed: the new code cannot be tried: %s", error)
        return False
    if tried.returncode == 0:
        logger.error("reload failed: the new code exits without serving tasks")
    return tried.returncode == CAN_BE_SERVED


def hold_stop_signals() -> None:
    """Keep SIGTERM and SIGINT pending, also through the exec, until `release_stop_signals` is called."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """Deliver the signals that were held, and do not hold further ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def replace_supervisor(children: Iterable[tuple[int, int, socket.socket]]) -> NoReturn:
    """Replace the program of this process by the new code (`exec`). The stop signals are held.

    Args:
        children: pid, number and socket of each child process, which the new supervisor takes over.

    Raises:
        OSError: the system cannot execute the command.
    """
    if _FOLDER is not None:
        os.chdir(_FOLDER)
    state = []
    for pid, number, ours in children:
        ours.set_inheritable(True)
        state.append(OldProcess(pid, number, ours.fileno()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # kept by the exec: a second SIGHUP would end the process
    stdio.flush()
    command = _command()
    os.execve(command[0], command, settings.environment_for_reload(msgspec.json.encode(state).decode()))


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _start_folder() -> Path | None:
    """Folder in which the command was started; the script may have changed it, even before it imported crew.

    Python makes the path of the script absolute when it starts: the part before the path as given is the folder. With
    `python -m` the folder is the first entry of `sys.path`, unless that is switched off (`-P`).
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

"""Orphan processes that the kernel gives to the supervisor as their new parent.

The kernel gives a process without a parent to process 1, which may be the supervisor in a container, or to a process
that has declared itself a "subreaper" (prctl(2)). When it exits it stays a zombie until the new parent reaps it.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_PR_GET_CHILD_SUBREAPER: Final = 37  # prctl(2)


def are_adopted() -> bool:
    """Whether the kernel makes this process the parent of orphans."""
    return os.getpid() == 1 or _is_subreaper()


def reap(known: Container[int]) -> None:
    """Reap orphans that have exited.

    Processes that this process started itself are left to the code that waits for them: those in `known`, and those of
    its own session, as a module may have started a helper. A process that a task left behind has another session: that
    of its worker process, or its own.
    """
    for pid in list(_dead_children()):
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _is_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int(0)
    return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer)) == 0 and bool(answer.value)


def _dead_children() -> Iterator[int]:
    """Zombies that are children of this process and belong to another session."""
    ours, session = os.getpid(), os.getsid(0)
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended
            state, parent, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state == "Z" and int(parent) == ours and int(its_session) != session:
                yield int(folder.name)

"""Orphans: processes whose parent has ended, and which the kernel has given to the supervisor.

It gives them to process 1, which the supervisor is in a container, and to who has asked for them (a "subreaper"). They
stay zombies until their new parent has taken notice of their end.
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


def are_ours() -> bool:
    """Whether this process gets orphans."""
    return os.getpid() == 1 or _is_subreaper()


def reap(known: Container[int]) -> None:
    """Take notice of the end of orphans.

    What this process has started itself is left to whoever waits for it there: the processes `known`, and those of its
    own session, as a module may have started a helper. What a task leaves has another session, that of its worker
    process or one of its own.
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
    """Children of this process in other sessions that are zombies."""
    ours, session = os.getpid(), os.getsid(0)
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # it has ended
            state, parent, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state == "Z" and int(parent) == ours and int(its_session) != session:
                yield int(folder.name)

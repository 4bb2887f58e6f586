"""Processes by their id: command line, end, signals, and killing a process with all its descendants.

The functions also work for processes that are not our children. They read /proc on Linux, and `ps` elsewhere.
"""

import os
import signal
import subprocess
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_POLL: Final = 0.02  # seconds


def command_line(pid: int) -> str:
    """The command line of process `pid`; "" if it has ended, and for a moment during its exec."""
    if _has_proc():
        try:
            return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    return _ps("-ww", "-o", "command=", "-p", str(pid)).strip()


def has_ended(pid: int) -> bool:
    """Whether `pid` does not exist, or is a zombie: it has ended, but its parent has not waited for it."""
    if not _has_proc():
        return _ps("-o", "state=", "-p", str(pid)).strip()[:1] in ("", "Z")
    try:
        return _stat(_PROC / str(pid))[0] in "ZX"
    except OSError:
        return True


def ended_within(pid: int, seconds: float) -> bool:
    """Wait until `pid` has ended; returns False at the deadline."""
    deadline = time.monotonic() + seconds
    while not has_ended(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to `pid`, if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_tree(pid: int) -> None:
    """Kill `pid` and all its descendants, also those in process groups and sessions of their own.

    Each process is stopped (SIGSTOP) before its children are listed, so that it cannot start further ones unnoticed.
    """
    stopped = [pid]
    send(pid, signal.SIGSTOP)
    for parent in stopped:  # grows during the loop
        for child in _children().get(parent, []):
            send(child, signal.SIGSTOP)
            stopped.append(child)
    for one in reversed(stopped):
        send(one, signal.SIGKILL)


def kill_session(leader: int) -> None:
    """Kill the remaining processes of a session whose leader, process `leader`, has ended."""
    for pid, _, session in _table():
        if session == leader:
            send(pid, signal.SIGKILL)


def _has_proc() -> bool:
    return (_PROC / "self" / "cmdline").exists()


def _children() -> dict[int, list[int]]:
    """Process ids by the process id of their parent."""
    children = defaultdict(list)
    for pid, parent, _ in _table():
        children[parent].append(pid)
    return children


def _table() -> list[tuple[int, int, int]]:
    """The ids of process, parent and session for each process."""
    if not _has_proc():
        lines = _ps("-axo", "pid=,ppid=,sess=").splitlines()  # macOS prints 0 for the session
        return [(int(pid), int(parent), int(session, 16)) for pid, parent, session in map(str.split, lines)]
    rows = []
    for entry in _PROC.iterdir():
        with suppress(OSError, ValueError):  # not a process, or it has just ended
            fields = _stat(entry)
            rows.append((int(entry.name), int(fields[1]), int(fields[3])))
    return rows


def _stat(entry: Path) -> list[str]:
    """State, parent, group, session and more: the fields of proc(5) from the third on."""
    return (entry / "stat").read_text().rpartition(")")[2].split()  # the second field may contain blanks and brackets


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout

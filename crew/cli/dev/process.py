"""A process known by its id: is it still the one that was meant, and how it ends with all that it started.

Everything here works where the process is no child of ours. Linux tells by /proc, other systems by `ps`.
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
_POLL: Final = 0.02  # seconds between two looks


def command_line(pid: int) -> str:
    """The command line of process `pid`, or "" where it has ended; for a moment also while it becomes a program."""
    if _has_proc():
        try:
            return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    return _ps("-ww", "-o", "command=", "-p", str(pid)).strip()


def has_ended(pid: int) -> bool:
    """Whether `pid` is gone, or a zombie: it has ended, and its parent has not taken notice."""
    if not _has_proc():
        return _ps("-o", "state=", "-p", str(pid)).strip()[:1] in ("", "Z")
    try:
        return _stat(_PROC / str(pid))[0] in "ZX"
    except OSError:
        return True


def ended_within(pid: int, seconds: float) -> bool:
    """Wait until `pid` has ended; False at the deadline."""
    deadline = time.monotonic() + seconds
    while not has_ended(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to `pid`, where it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_tree(pid: int) -> None:
    """Kill `pid` with everything below it, whatever groups and sessions they made for themselves.

    Each process is frozen before its children are listed, so that none can start another one unseen.
    """
    frozen = [pid]
    send(pid, signal.SIGSTOP)
    for parent in frozen:  # grows while it is walked
        for child in _children().get(parent, []):
            send(child, signal.SIGSTOP)
            frozen.append(child)
    for one in reversed(frozen):
        send(one, signal.SIGKILL)


def kill_session(leader: int) -> None:
    """Kill what is left of the session that process `leader` led until it ended."""
    for pid, _, session in _table():
        if session == leader:
            send(pid, signal.SIGKILL)


def _has_proc() -> bool:
    return (_PROC / "self" / "cmdline").exists()


def _children() -> dict[int, list[int]]:
    """Process ids by the id of their parent."""
    children = defaultdict(list)
    for pid, parent, _ in _table():
        children[parent].append(pid)
    return children


def _table() -> list[tuple[int, int, int]]:
    """Process, parent, session."""
    if not _has_proc():
        lines = _ps("-axo", "pid=,ppid=,sess=").splitlines()  # macOS has no number for a session there: 0
        return [(int(pid), int(parent), int(session, 16)) for pid, parent, session in map(str.split, lines)]
    rows = []
    for entry in _PROC.iterdir():
        with suppress(OSError, ValueError):  # no process, or one that has just ended
            fields = _stat(entry)
            rows.append((int(entry.name), int(fields[1]), int(fields[3])))
    return rows


def _stat(entry: Path) -> list[str]:
    """State, parent, group, session and more: see proc(5), from its third field on."""
    return (entry / "stat").read_text().rpartition(")")[2].split()  # the second may hold blanks, even brackets


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout

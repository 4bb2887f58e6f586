"""The standard streams of a worker: what tasks print appears at once, and no task can close them for the others."""

import contextlib
import io
import os
import sys
from typing import Final, TextIO

_STDERR: Final = 2


def prepare() -> None:
    """Write each line at once, also into a file; `close` only flushes, as later tasks and the log need the stream."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(line_buffering=True)
            stream.close = stream.flush  # type: ignore[method-assign]


def flush() -> None:
    """Write out what the standard streams hold, where they are still there and take it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, a full disk, or whatever a task has put in its place
            stream.flush()


def log_stream() -> TextIO | None:
    """Where the log goes: stderr, by a descriptor of its own, so that it works on after a task has closed stderr."""
    if sys.stderr is None or sys.stderr is not sys.__stderr__:
        return sys.stderr  # somebody has put another stream in its place, and wants to have the log there
    try:
        return os.fdopen(
            os.dup(_STDERR), "w", buffering=1, encoding=getattr(sys.stderr, "encoding", None), errors="backslashreplace"
        )
    except OSError:  # it is closed
        return sys.stderr


def descriptor_for_stacks() -> int:
    """A descriptor for faulthandler, which writes without Python: stderr's file, or the null device without one."""
    try:
        return os.dup(_STDERR)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)

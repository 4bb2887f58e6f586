"""Standard streams of a worker: printed lines appear at once, and no task can close a stream for the others."""

import contextlib
import io
import os
import sys
from typing import Final, TextIO

_STDERR: Final = 2


def prepare() -> None:
    """Flush stdout and stderr after each line, also into a file; `close` only flushes, as others need the stream."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(line_buffering=True)
            stream.close = stream.flush  # type: ignore[method-assign]


def flush() -> None:
    """Flush stdout and stderr, if they are still open and writable."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, a full disk, or an object that a task has put in its place
            stream.flush()


def log_stream() -> TextIO | None:
    """Stream for the log: stderr through its own descriptor, so that logging goes on after a task has closed stderr."""
    if sys.stderr is None or sys.stderr is not sys.__stderr__:
        return sys.stderr  # the script has replaced it, to have the log there
    try:
        return os.fdopen(
            os.dup(_STDERR), "w", buffering=1, encoding=getattr(sys.stderr, "encoding", None), errors="backslashreplace"
        )
    except OSError:  # it is closed
        return sys.stderr


def descriptor_for_stacks() -> int:
    """Descriptor for faulthandler, which writes without Python: that of stderr, or the null device if it is closed."""
    try:
        return os.dup(_STDERR)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)

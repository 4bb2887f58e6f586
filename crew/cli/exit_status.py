"""The exit status of a command tells what kind of failure it was."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from crew.command_line import EXIT_INTERRUPTED, EXIT_IO, EXIT_USAGE, complain, say
from crew.errors import (
    ConnectionError,
    CrewError,
    ExpirationError,
    SettingsError,
    TaskFailed,
    TimeoutError,
    UnknownTask,
)
from crew.escape import CONTINUED, continued


class ExitStatus(IntEnum):
    """What a script can ask `$?` for."""

    OK = 0
    TASK_FAILED = 1
    USAGE = EXIT_USAGE
    UNKNOWN_TASK = 3
    EXPIRED = 4
    TIMEOUT = 5
    BROKER_AWAY = 6
    OTHER = 7
    IO = EXIT_IO
    INTERRUPTED = EXIT_INTERRUPTED


_STATUSES: Final[dict[type[CrewError], ExitStatus]] = {
    TaskFailed: ExitStatus.TASK_FAILED,
    SettingsError: ExitStatus.USAGE,
    UnknownTask: ExitStatus.UNKNOWN_TASK,
    ExpirationError: ExitStatus.EXPIRED,
    TimeoutError: ExitStatus.TIMEOUT,
    ConnectionError: ExitStatus.BROKER_AWAY,
}


def status_of(error: CrewError) -> ExitStatus:
    """The exit status for `error`."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), ExitStatus.OTHER)


@contextmanager
def reported(*, verbose: bool = False) -> Iterator[None]:
    """End the command with one sentence on stderr, and the exit status, where it fails in a way that crew knows.

    SIGTERM ends it as Ctrl-C does: what was opened is closed, what has begun to start is ended again.

    Args:
        verbose: show the traceback of a task that failed or timed out, as its worker has sent it.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except CrewError as error:
        if verbose and isinstance(error, TaskFailed | TimeoutError) and error.traceback:
            say(f"{CONTINUED}{continued(error.traceback.rstrip())}", err=True)  # no line of it looks like the error
        complain(str(error))
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)

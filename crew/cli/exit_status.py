"""Exit statuses of commands, and the error line that a failed command prints."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from crew.command_line import EXIT_INTERRUPTED, EXIT_IO, EXIT_USAGE, print_error, print_line
from crew.errors import (
    ConnectionError,
    CrewError,
    ExpirationError,
    InvalidArguments,
    SettingsError,
    TaskFailed,
    TimeoutError,
    UnknownTask,
)
from crew.escape import CONTINUED, continued


class ExitStatus(IntEnum):
    """Exit status (`$?`) of `crew` commands, by the kind of failure."""

    OK = 0
    TASK_FAILED = 1
    USAGE = EXIT_USAGE
    UNKNOWN_TASK = 3
    EXPIRED = 4
    TIMEOUT = 5
    BROKER_UNAVAILABLE = 6
    OTHER = 7
    IO = EXIT_IO
    INTERRUPTED = EXIT_INTERRUPTED


_STATUSES: Final[dict[type[CrewError], ExitStatus]] = {
    TaskFailed: ExitStatus.TASK_FAILED,
    InvalidArguments: ExitStatus.USAGE,
    SettingsError: ExitStatus.USAGE,
    UnknownTask: ExitStatus.UNKNOWN_TASK,
    ExpirationError: ExitStatus.EXPIRED,
    TimeoutError: ExitStatus.TIMEOUT,
    ConnectionError: ExitStatus.BROKER_UNAVAILABLE,
}


def status_of(error: CrewError) -> ExitStatus:
    """The exit status for `error`."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), ExitStatus.OTHER)


@contextmanager
def exit_on_error(*, verbose: bool = False) -> Iterator[None]:
    """Run a command's body. A CrewError is printed as one line on stderr, and becomes the exit status.

    SIGTERM works like Ctrl-C: connections are closed, and what has been started is stopped.

    Args:
        verbose: print the traceback of a task that failed or timed out, as received from its worker.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except CrewError as error:
        if verbose and isinstance(error, TaskFailed | TimeoutError) and error.traceback:
            print_line(
                f"{CONTINUED}{continued(error.traceback.rstrip())}", err=True
            )  # marked: no line can imitate an error
        print_error(str(error))
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)

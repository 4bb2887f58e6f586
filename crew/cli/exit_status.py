"""The exit status of a command tells what kind of failure it was."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import click

from crew.errors import (
    ConnectionError,
    CrewError,
    ExpirationError,
    SettingsError,
    TaskFailed,
    TimeoutError,
    UnknownTask,
)


class ExitStatus(IntEnum):
    """What a script can ask `$?` for."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2  # click's own status for a wrong command line
    UNKNOWN_TASK = 3
    EXPIRED = 4
    TIMEOUT = 5
    BROKER_AWAY = 6
    OTHER = 7
    INTERRUPTED = 130  # as shells have it for Ctrl-C: 128 + SIGINT


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
            click.echo(error.traceback.rstrip(), err=True)
        click.echo(f"crew: {error}", err=True)
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has had enough, `head` for one
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        sys.exit(ExitStatus.OK)
    finally:
        signal.signal(signal.SIGTERM, before)

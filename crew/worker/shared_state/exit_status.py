"""Exit codes of worker processes, and how a process ended, as text."""

import signal
from typing import Final

EXIT_DRAINED: Final = 0
EXIT_NOT_STARTED: Final = 69  # EX_UNAVAILABLE of sysexits.h: a start hook failed, and may succeed the next time
EXIT_BROKEN: Final = 70  # EX_SOFTWARE
EXIT_REPLACE: Final = 75  # EX_TEMPFAIL: replace this process, as a task cannot be interrupted or --max-tasks is reached
EXIT_REFUSED: Final = 78  # EX_CONFIG: a restart would not help


def exit_status_of(code: int) -> str:
    """Name of the signal that ended a process, or "exit 1".

    Args:
        code: as `os.waitstatus_to_exitcode` returns it; negative for a signal.
    """
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal: only the first and the last of them have names
        return f"signal {-code}"


def describe_exit(status: str) -> str:
    """Turn a result of `exit_status_of` into a verb: "exited with 1" or "was killed by SIGKILL"."""
    return f"exited with {status[5:]}" if status.startswith("exit ") else f"was killed by {status}"

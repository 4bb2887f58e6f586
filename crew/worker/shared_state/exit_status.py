"""How a process ended, as text: "SIGKILL" or "exit 1" as data, "was killed by SIGKILL" in a sentence."""

import signal


def exit_status_of(code: int) -> str:
    """The name of a signal, or "exit 1".

    Args:
        code: of `os.waitstatus_to_exitcode`; negative for a signal.
    """
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of the real-time signals, of which only the first and the last have names
        return f"signal {-code}"


def describe_exit(status: str) -> str:
    """A result of `exit_status_of` as the end of a sentence whose subject is the process."""
    return f"exited with {status[5:]}" if status.startswith("exit ") else f"was killed by {status}"

"""How a process ended, in words: "SIGKILL" or "exit 1" where it is data, a few words more where it is read."""

import signal


def exit_status(code: int) -> str:
    """`code`, as `os.waitstatus_to_exitcode` has it: negative is a signal."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of the real-time signals, of which only the first and the last have names
        return f"signal {-code}"


def told(status: str) -> str:
    """The words of `exit_status` as they end a sentence that begins with the process."""
    return f"exited with {status[5:]}" if status.startswith("exit ") else f"was killed by {status}"

"""Tasks of the jobs in test_jobs_api.py: python jobs_worker.py"""

import time
from typing import Any

from crew import Interrupt
from crew.worker import Task, context, run


@Task("echo")
def echo(payload: Any) -> Any:
    """Return the payload; add a header."""
    context.headers["kind"] = type(payload).__name__
    return payload


@Task("bytes")
def some_bytes(_: None) -> bytes:
    """Return bytes."""
    return bytes(range(256))


@Task("fail")
def fail(text: str) -> None:
    """Raise an exception."""
    raise ValueError(text)


@Task("sleep")
def sleep(seconds: float) -> str:
    """Print its start, and the reason of its end."""
    print("STARTED", flush=True)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)  # a thread is interrupted between two sleeps
    except Interrupt as interrupt:
        print("INTERRUPTED", interrupt.reason, flush=True)
        raise
    return "slept"


@Task("count")
def count(to: int) -> int:
    """Report progress slowly enough that each value is sent."""
    for number in range(1, to + 1):
        context.progress({"at": number})
        time.sleep(0.6)
    return to


if __name__ == "__main__":
    run()

"""The tasks that test_jobs_api.py has jobs of: python jobs_worker.py"""

import time
from typing import Any

from crew import Interrupt
from crew.worker import Task, context, run


@Task("echo")
def echo(payload: Any) -> Any:
    """The payload; a word in the headers."""
    context.headers["kind"] = type(payload).__name__
    return payload


@Task("bytes")
def some_bytes(_: None) -> bytes:
    """Bytes."""
    return bytes(range(256))


@Task("fail")
def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


@Task("sleep")
def sleep(seconds: float) -> str:
    """Tell when it starts, and why it ends."""
    print("STARTED", flush=True)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)  # a thread is interrupted between two of them
    except Interrupt as interrupt:
        print("INTERRUPTED", interrupt.reason, flush=True)
        raise
    return "slept"


@Task("count")
def count(to: int) -> int:
    """Say how far it is, at a pace that lets everybody hear each number."""
    for number in range(1, to + 1):
        context.progress({"at": number})
        time.sleep(0.6)
    return to


if __name__ == "__main__":
    run()

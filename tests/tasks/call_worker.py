"""The tasks that test_call_api.py calls over HTTP: python call_worker.py"""

import os
import time
from typing import Any

from crew import Interrupt
from crew.worker import Task, context, run

ODD_NAMES = ["a/b", "a b.c", "100%", "größe/日本", "a?b#c", "a+b", "%2F"]


@Task("echo")
def echo(payload: Any) -> Any:
    """The payload, and its type."""
    context.headers.update(kind=type(payload).__name__, evil="a\r\nSet-Cookie: b=c", answered=True)
    return payload


@Task("resize")
def resize(path: str, width: int = 640) -> str:
    """A name of the resized image."""
    return f"{path}-{width}"


@Task("sleep")
def sleep(seconds: float) -> str:
    """Print its start, and the reason of its end."""
    print("STARTED", flush=True)
    try:
        time.sleep(seconds)
    except Interrupt as interrupt:
        print("INTERRUPTED", isinstance(interrupt, SystemExit), interrupt.reason, time.time(), flush=True)
        raise
    return "slept"


@Task("fail")
def fail(text: str) -> None:
    """Raise an exception."""
    raise ValueError(text)


@Task("die")
def die(_: None) -> None:
    """Kill the process."""
    os._exit(1)


def name(_: None) -> str:
    """The name by which it was called."""
    return context.task


for odd in ODD_NAMES:
    Task(odd)(name)


if __name__ == "__main__":
    run()

"""Tasks of the fuzz tests: python fuzz_worker.py"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from crew.worker import Task, context, run

EXECUTED = Path(os.environ["CREW_FUZZ_EXECUTED"])  # one line for each execution; forged messages must add none
_lock = threading.Lock()


def _record(task: str, payload: Any) -> None:
    line = json.dumps([task, repr(payload)[:200]])
    with _lock, EXECUTED.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@Task("echo")
def echo(payload: Any) -> Any:
    """Return the payload."""
    _record("echo", payload)
    return payload


@Task("fail")
def fail(payload: Any) -> None:
    """Raise an exception."""
    _record("fail", payload)
    raise ValueError(f"failed on purpose: {str(payload)[:100]}")


@Task("flaky", retries=1, backoff=(0.05, 0.05))
def flaky(payload: Any) -> Any:
    """Fail in the first execution."""
    _record("flaky", payload)
    if context.attempt < 2:
        raise ConnectionError("not yet")
    return payload


@Task("steps")
def steps(payload: Any) -> Any:
    """Report progress."""
    _record("steps", payload)
    for number in range(3):
        context.progress({"at": number})
    return payload


@Task("few", max_queue=1_000)
def few(payload: Any) -> Any:
    """Has a queue with max_queue."""
    _record("few", payload)
    return payload


if __name__ == "__main__":
    run()

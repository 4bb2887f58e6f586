"""The worker of `jobs.py`: tasks that do no work."""

import time
from typing import Any

from crew.worker import Task, run


@Task("benchmark.empty")
def empty(_: Any) -> None:
    """Do nothing."""


@Task("benchmark.soon")
def soon(seconds: float) -> float:
    """Sleep, then return the current time in epoch seconds."""
    time.sleep(seconds)
    return time.time()


if __name__ == "__main__":
    run()

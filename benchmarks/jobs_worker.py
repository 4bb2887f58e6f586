"""The worker behind `jobs.py`: tasks without work."""

import time
from typing import Any

from crew.worker import Task, run


@Task("benchmark.empty")
def empty(_: Any) -> None:
    """Nothing."""


@Task("benchmark.soon")
def soon(seconds: float) -> float:
    """The instant at which it ends, after a while: epoch seconds."""
    time.sleep(seconds)
    return time.time()


if __name__ == "__main__":
    run()

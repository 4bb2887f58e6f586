"""The worker behind `jobs.py`: tasks that do nothing."""

import time
from typing import Any

from crew.worker import Task, run


@Task("benchmark.empty")
def empty(_: Any) -> None:
    """Nothing."""


@Task("benchmark.moment")
def moment(_: Any) -> float:
    """The instant at which it ends: epoch seconds."""
    return time.time()


if __name__ == "__main__":
    run()

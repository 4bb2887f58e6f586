"""The worker of `prefetch.py`: one task that sleeps, `benchmark.sleep.<prefix>`."""

import os
import time

from crew.worker import Task, run


@Task(f"benchmark.sleep.{os.environ['CREW_BENCHMARK_PREFIX']}")
def sleep(seconds: float) -> float:
    """Sleep; return when this began, in epoch seconds."""
    started = time.time()
    time.sleep(seconds)
    return started


if __name__ == "__main__":
    run()

"""A worker script with ten tasks."""

import os
import time

from crew.worker import Task, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


def sleep(seconds: float) -> int:
    """Sleep, and return the pid."""
    os.write(1, f"RAN {os.getpid()}\n".encode())
    time.sleep(seconds)
    return os.getpid()


for number in range(10):
    Task(f"{PREFIX}{number}")(sleep)

if __name__ == "__main__":
    run(counter=0)

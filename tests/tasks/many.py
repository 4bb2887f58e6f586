"""A worker script with fifty tasks."""

import os

from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")


def name(_: object) -> str:
    """Return the name of the task."""
    return context.task


for number in range(50):
    Task(f"{PREFIX}{number}")(name)

if __name__ == "__main__":
    run()

"""Tasks of the storm test: they sleep, and record their start."""

import asyncio
import os
import time

from crew.worker import Task, context, run

PREFIX = os.environ["CREW_TEST_PREFIX"]
RECORD = os.open(os.environ["CREW_STORM_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def begin():
    """Record the start: one write for the line, so that lines of several processes do not mix, also at a SIGKILL."""
    os.write(RECORD, f"{context.id} {os.getpid()} {time.monotonic()}\n".encode())


@Task(PREFIX + "nap")
async def nap(seconds):
    begin()
    await asyncio.sleep(seconds)
    return context.id


@Task(PREFIX + "work")
def work(seconds):
    begin()
    time.sleep(seconds)
    return context.id


if __name__ == "__main__":
    run()

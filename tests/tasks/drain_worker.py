"""The task that test_drain.py calls over HTTP: python drain_worker.py"""

import asyncio

from crew.worker import Task, run


@Task("nap")
async def nap(seconds: float) -> float:
    """Sleep; one process can run many of them at a time."""
    await asyncio.sleep(seconds)
    return seconds


if __name__ == "__main__":
    run()

"""The client of `tasks.py`, `workers.py` and `restart.py`: it calls the tasks `<prefix>.<first>` to the last in turn.

    python -m scale.tasks_client PREFIX FIRST COUNT

The last one is `<prefix>.<COUNT - 1>`.
"""

import asyncio
import itertools
import sys
from typing import Any, Final

import load

from crew import Client, UnknownTask
from crew.client import PendingCall

WORKER_TIMEOUT: Final = 120.0  # seconds until the worker must serve its last task


async def run(prefix: str, first: int, count: int) -> None:
    """Wait until the last task is served, then run the orders from stdin."""
    names = itertools.cycle([f"{prefix}.{number}" for number in range(first, count)])
    async with Client(name="benchmark") as client:

        def call(payload: Any) -> PendingCall[Any]:
            return client.call(next(names), payload)

        async with asyncio.timeout(WORKER_TIMEOUT):
            while not await _is_served(client, f"{prefix}.{count - 1}"):  # polled, as the worker is another process
                await asyncio.sleep(0.1)
        await load.serve(call)


async def _is_served(client: Client, task: str) -> bool:
    try:
        await client.call(task, load.PAYLOAD, expiration=WORKER_TIMEOUT)
    except UnknownTask:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

"""The client of `tasks.py`, `workers.py` and `restart.py`: it calls the tasks `<prefix>.<first>` to the last in turn.

    python -m scale.tasks_client PREFIX FIRST COUNT

The last one is `<prefix>.<COUNT - 1>`.
"""

import asyncio
import itertools
import sys
from typing import Any, Final

import load
from echo_client import is_served

from crew import Client
from crew.client import PendingCall

WORKER_TIMEOUT: Final = 120.0  # seconds until the worker must serve its last task


async def run(prefix: str, first: int, count: int) -> None:
    """Wait until the last task is served, then run the orders from stdin."""
    names = itertools.cycle([f"{prefix}.{number}" for number in range(first, count)])
    async with Client(name="benchmark") as client:

        def call(payload: Any) -> PendingCall[Any]:
            return client.call(next(names), payload)

        async with asyncio.timeout(WORKER_TIMEOUT):
            while not await is_served(client, f"{prefix}.{count - 1}", load.PAYLOAD, WORKER_TIMEOUT):
                await asyncio.sleep(0.1)
        await load.serve(call)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

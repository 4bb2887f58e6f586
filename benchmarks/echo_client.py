"""The client under test: crew's, calling the echo of `echo_worker.py`."""

import asyncio
import sys
from typing import Any

import load

from crew import Client, UnknownTask
from crew.client import PendingCall

TASK = "benchmark.echo"
WORKER_TIMEOUT = 20.0  # seconds for the worker to come up


async def run(*, persistent: bool) -> None:
    """Wait for the worker, then carry out the orders from stdin."""
    async with Client(name="benchmark") as client:

        def call(payload: Any) -> PendingCall[Any]:
            return client.call(TASK, payload, persistent=persistent)

        async with asyncio.timeout(WORKER_TIMEOUT):
            while not await _is_served(client):  # another process: nothing here is told of it
                await asyncio.sleep(0.1)
        await load.serve(call)


async def _is_served(client: Client) -> bool:
    try:
        await client.call(TASK, load.PAYLOAD, expiration=WORKER_TIMEOUT)
    except UnknownTask:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(run(persistent="--persistent" in sys.argv))

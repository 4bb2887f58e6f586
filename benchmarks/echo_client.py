"""The crew client of the benchmark: it calls the echo task of `echo_worker.py`."""

import asyncio
import sys
from typing import Any

import load

from crew import Client, UnknownTask
from crew.client import PendingCall

TASK = "benchmark.echo"
WORKER_TIMEOUT = 20.0  # seconds until the worker must serve


async def run(*, persistent: bool) -> None:
    """Wait for the worker, then run the orders from stdin."""
    async with Client(name="benchmark") as client:

        def call(payload: Any) -> PendingCall[Any]:
            return client.call(TASK, payload, persistent=persistent)

        async with asyncio.timeout(WORKER_TIMEOUT):
            while not await is_served(
                client, TASK, load.PAYLOAD, WORKER_TIMEOUT
            ):  # polled, as the worker is another process
                await asyncio.sleep(0.1)
        await load.serve(call, _mixin)


def _mixin() -> type:
    from crew.gateway import AbandonMixin  # only the handlers of HTTP requests need the gateway's packages

    return AbandonMixin


async def is_served(client: Client, task: str, payload: Any, timeout: float) -> bool:
    """Call `task`, and wait up to `timeout` seconds; return False if no worker has declared it yet."""
    try:
        await client.call(task, payload, expiration=timeout)
    except UnknownTask:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(run(persistent="--persistent" in sys.argv))

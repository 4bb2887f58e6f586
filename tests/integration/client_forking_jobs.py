"""Submits jobs, forks children that submit more with the same client, and prints them: PREFIX STORE."""

import asyncio
import json
import os
import sys
from typing import Any

from crew import Client
from crew.jobs import JobStore

PREFIX, STORE = sys.argv[1:]
client = Client(store=JobStore(STORE))


async def submit(**told: Any) -> None:
    job = await client.submit(PREFIX + "echo", os.getpid())
    os.write(1, (json.dumps({"pid": os.getpid(), "result": await job.result(30), **told}) + "\n").encode())


async def child() -> None:
    await submit()
    await client.close()


async def main() -> None:
    before = await client.submit(PREFIX + "echo", "before")
    await before.result(30)
    pids = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            try:
                asyncio.run(child())
            finally:
                os._exit(0)
        pids.append(pid)
    await submit(is_parent=True)
    for pid in pids:
        await asyncio.to_thread(os.waitpid, pid, 0)
    await submit(is_parent=True, before=await before.result(30))
    await client.close()


asyncio.run(main())

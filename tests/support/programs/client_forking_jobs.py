"""Submits jobs, forks children that submit more with the same client, and prints them: PREFIX STORE built|used."""

import asyncio
import json
import os
import sys
from typing import Any

from crew import Client, SettingsError
from crew.jobs import JobStore

PREFIX, STORE, STATE = sys.argv[1:]  # the client was only built before the fork, or it was used
client = Client(store=JobStore(STORE))


async def submit(**shown: Any) -> None:
    try:
        job = await client.submit(PREFIX + "echo", os.getpid())
        shown["result"] = await job.result(30)
    except SettingsError as error:
        shown["error"] = str(error)
    os.write(1, (json.dumps({"pid": os.getpid(), **shown}) + "\n").encode())


async def child() -> None:
    await submit()
    await client.close()


def fork() -> list[int]:
    pids = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            try:
                asyncio.run(child())
            finally:
                os._exit(0)
        pids.append(pid)
    return pids


async def ended(pids: list[int]) -> None:
    for pid in pids:
        await asyncio.to_thread(os.waitpid, pid, 0)


async def use_and_fork() -> None:
    before = await client.submit(PREFIX + "echo", "before")
    await before.result(30)
    pids = fork()
    await submit()
    await ended(pids)
    await submit(before=await before.result(30))
    await client.close()


async def use_after(pids: list[int]) -> None:
    await submit()
    await ended(pids)
    await client.close()


if STATE == "used":
    asyncio.run(use_and_fork())
else:
    asyncio.run(use_after(fork()))

"""A gateway process for tests: python gateway.py. It reads commands from its standard input, a line of JSON each, and
prints the result of each as a line of JSON.

CREW_AMQP_URL and CREW_DATABASE in the environment are the addresses of broker and job store.
"""

import asyncio
import json
import sys
import time
from typing import Any

from crew import Client
from crew.jobs import JobStore


async def main() -> None:
    commands: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: commands.put_nowait(sys.stdin.readline()))
    async with Client(store=JobStore()) as client:
        await client.jobs.ready()
        print(json.dumps("ready"), flush=True)
        while line := await commands.get():
            name, *arguments = json.loads(line)
            print(json.dumps(await COMMANDS[name](client, *arguments)), flush=True)
    loop.remove_reader(sys.stdin)


async def submit(client: Client, task: str, data: object) -> str:
    return (await client.submit(task, data)).id


async def wait(client: Client, id: str) -> dict[str, Any]:
    job = await client.jobs.wait(id)
    woken = time.time()
    return {"status": job.status, "ended": job.ended, "woken": woken}


async def cancel(client: Client, id: str) -> bool:
    return bool(await client.jobs.cancel(id))


async def result(client: Client, id: str) -> object:
    return await client.jobs.result(id)


async def status(client: Client, id: str) -> str:
    return str((await client.jobs.get(id)).status)


async def progress(client: Client, id: str) -> object:
    return await client.job(id).progress()


COMMANDS = {command.__name__: command for command in (submit, wait, cancel, result, status, progress)}


if __name__ == "__main__":
    asyncio.run(main())

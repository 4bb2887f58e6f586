"""A client that makes very many calls, good and bad ones, and prints its resources before and after as JSON.

Arguments: number of calls, and number of calls for the warm-up.
"""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from crew import Client, CrewError

IN_FLIGHT = 64
PAGE = os.sysconf("SC_PAGE_SIZE")


async def one(client: Client, number: int) -> None:
    """Make one call; the number decides how it ends."""
    with contextlib.suppress(CrewError, TimeoutError, asyncio.CancelledError):
        match number % 200:
            case 1:
                await client.call("sleep", 1, timeout=0.005)  # interrupted
            case 2:
                await client.call("idle", expiration=0.05)  # no worker starts it
            case 3:
                await client.call("unserved")
            case 4:
                await asyncio.wait_for(client.call("idle", expiration=5), 0.02)
            case kind if kind % 20 == 5:
                await client.call("bad", "raise")
            case kind if kind % 20 == 6:
                client.call("echo", number).cancel()
            case kind if kind % 20 == 7:
                await client.call("echo", number, persistent=False, callback=lambda value, headers: None)
            case _:
                assert await client.call("echo", number) == number


async def many(client: Client, count: int) -> None:
    """Make `count` calls, `IN_FLIGHT` at the same time."""
    numbers = itertools.count()

    async def caller() -> None:
        while (number := next(numbers)) < count:
            await one(client, number)

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


async def held(client: Client, worker: int) -> dict[str, Any]:
    """Memory, descriptors and threads of client and worker after all calls have ended."""
    await client.call("echo")
    await asyncio.sleep(0.3)  # for the last acknowledgements and cancels
    gc.collect()
    return {
        "client KiB": _rss("self"),
        "worker KiB": _rss(worker),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "worker threads": _entries(f"/proc/{worker}/task"),
        "files": _entries("/proc/self/fd"),
        "worker files": _entries(f"/proc/{worker}/fd"),
        "client": repr(client),
    }


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _rss(process: int | str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE // 1024


async def main(count: int, warm_up: int) -> None:
    """Print two lines of JSON."""
    async with Client() as client:
        worker = (await client.call("who"))["pid"]
        for calls in (warm_up, count - warm_up):
            await many(client, calls)
            print(json.dumps(await held(client, worker)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))

"""Makes a client, forks children that all use it, and prints the results of each process: KIND STATE PREFIX.

KIND is "asyncio" or "blocking". STATE is "built" or "used": what the parent has done with its client. Each process
prints a line of JSON.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crew import Client, CrewError
from crew.client import blocking

CHILDREN = 4
CALLS = 200
KIND, STATE, PREFIX = sys.argv[1:]


def fork(child: Callable[[], dict[str, Any]]) -> list[int]:
    """Run `child` in children, and print what it returns; their pids."""
    pids = []
    for _ in range(CHILDREN):
        if (pid := os.fork()) == 0:
            status = 1
            try:
                report(inherited_sockets=connected_sockets(), **child())
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    return pids


def wait(pids: list[int]) -> None:
    for pid in pids:
        os.waitpid(pid, 0)


def report(**fields: Any) -> None:
    os.write(1, (json.dumps({"pid": os.getpid(), **fields}) + "\n").encode())


def connected_sockets() -> int:
    """The number of TCP connections of which this process has a descriptor."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as one:
            count += one.family == socket.AF_INET and bool(one.getpeername())
    return count


class Asyncio:
    """The parent forks while its event loop runs."""

    def __init__(self) -> None:
        self.client = Client(name="forking")
        self.in_flight: Any = None

    def run(self) -> None:
        if STATE == "built":
            wait(fork(lambda: asyncio.run(self.calls())))
        else:
            asyncio.run(self.use())

    async def use(self) -> None:
        await self.client.call(PREFIX + "echo", 0)
        self.in_flight = self.client.call(PREFIX + "sleep", 0.5)
        before = self.connections()
        pids = fork(lambda: asyncio.run(self.calls()))
        in_flight = await self.in_flight
        await asyncio.to_thread(wait, pids)
        report(is_connected_as_before=self.connections() == before, **{**await self.calls(), "in_flight": in_flight})

    async def calls(self) -> dict[str, Any]:
        values = await asyncio.gather(*(self.client.call(PREFIX + "echo", n) for n in range(CALLS)))
        results = {"id": self.client.id, "values": values, "in_flight": None}
        if self.in_flight is not None:
            try:
                results["in_flight"] = await self.in_flight
            except CrewError as error:
                results["in_flight"] = f"{type(error).__name__}: {error}"
        await self.client.close()
        return results

    def connections(self) -> list[object]:
        return [self.client.links.publishing._connection, self.client.links.consuming._connection]


class Blocking:
    """The parent forks while its client has a thread."""

    def __init__(self) -> None:
        self.client = blocking.Client(name="forking")
        self.in_flight: Any = None

    def run(self) -> None:
        if STATE == "built":
            wait(fork(self.calls))
            return
        self.client.call(PREFIX + "echo", 0).result()
        self.in_flight = self.client.call(PREFIX + "sleep", 0.5)
        before = self.connections()
        pids = fork(self.calls)
        in_flight = self.in_flight.result()
        wait(pids)
        report(is_connected_as_before=self.connections() == before, **{**self.calls(), "in_flight": in_flight})

    def calls(self) -> dict[str, Any]:
        calls = [self.client.call(PREFIX + "echo", n) for n in range(CALLS)]
        results = {"id": self.client.id, "values": [call.result() for call in calls], "in_flight": None}
        if self.in_flight is not None:
            try:
                results["in_flight"] = self.in_flight.result()
            except CrewError as error:
                results["in_flight"] = f"{type(error).__name__}: {error}"
        self.client.close()
        return results

    def connections(self) -> list[object]:
        return [self.client._client.links.publishing._connection, self.client._client.links.consuming._connection]


(Asyncio() if KIND == "asyncio" else Blocking()).run()

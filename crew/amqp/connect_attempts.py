"""Several attempts to connect at a time: the first that opens wins.

A broker that is frozen, or a network that swallows packets, lets an attempt hang without a word; who waits for its end
comes back long after the broker has. So another attempt begins beside one that hangs: where the broker wakes up, an old
one is answered; where the network has come back, a new one.
"""

import asyncio
import itertools
import os
import socket
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final

from crew.amqp.connection.connection import BrokerConnection, close_connection
from crew.amqp.errors import LinkError, LinkRefused

NEXT_AFTER: Final = 1.0  # seconds without an answer: a broker that is back is used within 2
AT_ONCE: Final = 4  # attempts of one link: hundreds of peers must not bury a broker that wakes up

Open = Callable[[str], Coroutine[None, None, BrokerConnection]]


class ConnectAttempts:
    """Connects to one of `urls`, which are tried in turn.

    Args:
        open: connects to one of them, or raises LinkError; its cancellation gives the attempt up.
        on_failed: told the URL and the fault of an attempt that has failed, where others still go on.

    Attributes:
        url: of the attempt that has opened, or failed, last.
    """

    def __init__(self, urls: Iterator[str], open: Open, *, on_failed: Callable[[str, LinkError], None]) -> None:
        self.url = ""
        self._urls = urls
        self._open = open
        self._on_failed = on_failed
        self._going: dict[asyncio.Task[BrokerConnection], str] = {}  # the oldest first

    def __repr__(self) -> str:
        return f"<ConnectAttempts: {len(self._going)} go on>"

    async def first(self) -> BrokerConnection:
        """The connection of the first that opens; all others are given up.

        Raises:
            LinkError: none goes on, and the last one failed with this; LinkRefused as soon as one is refused.
        """
        try:
            while True:
                await self._begin()
                next_at = asyncio.get_running_loop().time() + NEXT_AFTER
                while (patience := next_at - asyncio.get_running_loop().time()) > 0:
                    for task in await self._ended(patience):
                        if self._has_opened(task):
                            return await self._won(task.result())
        finally:
            await self._give_up(list(self._going))

    async def _won(self, connection: BrokerConnection) -> BrokerConnection:
        """Abort all other attempts and return `connection`; on cancellation close it, as no one else has it yet."""
        try:
            await self._give_up(list(self._going))
        except asyncio.CancelledError:
            await close_connection(connection)
            raise
        return connection

    async def _begin(self) -> None:
        """One more; where there are too many, in place of the second: the first has the longest patience."""
        if len(self._going) >= AT_ONCE:
            await self._give_up(list(self._going)[1:2])
        url = next(self._urls)
        self._going[asyncio.ensure_future(self._open(url))] = url

    async def _ended(self, patience: float) -> "list[asyncio.Task[BrokerConnection]]":
        """Those that have ended first, within `patience` seconds, in the order in which they began."""
        ended, _ = await asyncio.wait(self._going, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return [task for task in self._going if task in ended]

    def _has_opened(self, task: "asyncio.Task[BrokerConnection]") -> bool:
        """Whether it has opened; raises the fault where that is the end of all attempts."""
        self.url = self._going.pop(task)
        if (fault := _fault(task)) is None:
            return True
        if not self._going or isinstance(fault, LinkRefused):
            raise fault
        self._on_failed(self.url, fault)
        return False

    async def _give_up(self, tasks: "list[asyncio.Task[BrokerConnection]]") -> None:
        for task in tasks:
            del self._going[task]
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and _fault(task) is None:
                await close_connection(task.result())  # it has opened in the very moment


def _fault(task: "asyncio.Task[BrokerConnection]") -> LinkError | None:
    """Why it failed; anything but a LinkError is raised."""
    error = task.exception()
    if error is not None and not isinstance(error, LinkError):
        raise error
    return error


def first_host() -> int:
    """Number of the host with which this process begins.

    The processes of one machine begin with different hosts, so that they do not all connect to the first one. The links
    of one process begin with the same host, so that the loss of another node costs this process nothing.
    """
    return zlib.crc32(socket.gethostname().encode()) + os.getpid()


def urls_in_turn(urls: Sequence[str], *, first: int) -> Iterator[str]:
    """Repeat `urls` in their order for ever, beginning with number `first` modulo their number."""
    start = first % len(urls)
    return itertools.cycle((*urls[start:], *urls[:start]))

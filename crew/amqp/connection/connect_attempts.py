"""Concurrent attempts to connect: the first connection that opens is used.

With a frozen broker, or a network that drops packets, an attempt hangs until its timeout: long after the broker is
back. So another attempt begins while one hangs. When the broker resumes, an old attempt is answered. When the network
is back, a new attempt is answered.
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

# Seconds without an answer before another attempt: a broker that is back is used within 2 seconds.
NEXT_AFTER: Final = 1.0
AT_ONCE: Final = 4  # attempts of one link: hundreds of peers must not overload a broker that resumes

Open = Callable[[str], Coroutine[None, None, BrokerConnection]]
Close = Callable[[BrokerConnection], Coroutine[None, None, None]]


class ConnectAttempts:
    """Connects to one of `urls`, in turn.

    Args:
        open: connects to a URL or raises LinkError; cancelling it aborts the attempt.
        on_failed: called with the URL and the error of a failed attempt, while other attempts are under way.
        next_after: seconds without an answer before another attempt. Default 1.
        close: closes a connection that is not needed.

    Attributes:
        url: URL of the attempt that has succeeded or failed last.
    """

    def __init__(
        self,
        urls: Iterator[str],
        open: Open,
        *,
        on_failed: Callable[[str, LinkError], None],
        next_after: float = NEXT_AFTER,
        close: Close = close_connection,
    ) -> None:
        self.url = ""
        self._urls = urls
        self._open = open
        self._on_failed = on_failed
        self._next_after = next_after
        self._close = close
        self._running: dict[asyncio.Task[BrokerConnection], str] = {}  # attempt -> URL, the oldest first

    def __repr__(self) -> str:
        return f"<ConnectAttempts: {len(self._running)} running>"

    async def first(self) -> BrokerConnection:
        """Return the first connection that opens; abort all other attempts.

        Raises:
            LinkError: the error of the last attempt, when none is under way any more; LinkRefused as soon as the broker
                refuses one attempt.
        """
        try:
            while True:
                await self._begin()
                next_at = asyncio.get_running_loop().time() + self._next_after
                while (seconds := next_at - asyncio.get_running_loop().time()) > 0:
                    for task in await self._ended(seconds):
                        if self._has_opened(task):
                            return await self._abort_others(task.result())
        finally:
            await self._abort(list(self._running))

    async def _abort_others(self, connection: BrokerConnection) -> BrokerConnection:
        """Abort all other attempts and return `connection`; on cancellation close it, as no one else has it yet."""
        try:
            await self._abort(list(self._running))
        except asyncio.CancelledError:
            await self._close(connection)
            raise
        return connection

    async def _begin(self) -> None:
        """Begin another attempt. Where there are `AT_ONCE`, abort the second oldest: the oldest may wait longest."""
        if len(self._running) >= AT_ONCE:
            await self._abort(list(self._running)[1:2])
        url = next(self._urls)
        self._running[asyncio.ensure_future(self._open(url))] = url

    async def _ended(self, seconds: float) -> "list[asyncio.Task[BrokerConnection]]":
        """Wait up to `seconds` until an attempt ends; return those that have ended, in the order of their start."""
        ended, _ = await asyncio.wait(self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return [task for task in self._running if task in ended]

    def _has_opened(self, task: "asyncio.Task[BrokerConnection]") -> bool:
        """Whether the attempt has succeeded. Raise its error where that ends all attempts."""
        self.url = self._running.pop(task)
        if (error := _error_of(task)) is None:
            return True
        if not self._running or isinstance(error, LinkRefused):
            raise error
        self._on_failed(self.url, error)
        return False

    async def _abort(self, tasks: "list[asyncio.Task[BrokerConnection]]") -> None:
        for task in tasks:
            del self._running[task]
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and _error_of(task) is None:
                await self._close(task.result())  # it has opened at the same moment


def _error_of(task: "asyncio.Task[BrokerConnection]") -> LinkError | None:
    """Return why the attempt failed, or None; raise any error but a LinkError."""
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

"""What one request of a URL job may receive: bytes are counted as they leave the socket, before anybody parses them.

A body of 10 MiB is bounded where it is collected; but what a server sends need not become a body: extensions of chunks,
empty blocks of gzip, informational responses, headers, trailers. Encrypted bytes count as they come.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from crew.worker.url_jobs.body import MAX_BODY

MAX_HEAD: Final = 256 * 1024  # bytes until a response has its headers, with the handshake of TLS and what is 1xx
MAX_WIRE: Final = 2 * MAX_BODY + MAX_HEAD  # bytes in all: chunks of a few bytes each are twice as long as the body
MAX_READ: Final = 64 * 1024  # bytes at a time: parsing them holds the loop for a few milliseconds
MAX_INTERIM: Final = 10  # informational responses (1xx) before the final one
RATE_WINDOW: Final = 300.0  # seconds over which the rate of a body is measured: some servers pause for a minute or two


class TooMuch(OSError):
    """A server sends more than it may, or too slowly; its message goes on "the response ..."."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much one request may receive.

    Attributes:
        head: bytes until the response has its headers.
        wire: bytes in all.
        rate: bytes a second of a body, at least, as the average of each window; 0: no bound.
        window: seconds.
    """

    head: int = MAX_HEAD
    wire: int = MAX_WIRE
    rate: float = 0.0
    window: float = RATE_WINDOW


class Wire:
    """Counts what the sockets of one request receive.

    Attributes:
        fault: why it was broken off; None: it was not.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._most = bounds.head
        self._what = "headers"
        self.received = 0
        self.fault: str | None = None

    def socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """A socket that counts."""
        return _CountedSocket(self, family, kind, protocol)

    def check(self) -> None:
        """Raise TooMuch where no more may be received. Asked before a read: what came last may not be parsed yet."""
        if self.received >= self._most:
            self.fault = f"has {self._what} of more than {self._most} bytes as they travel"
        if self.fault is not None:
            raise TooMuch(self.fault)

    @contextlib.contextmanager
    def reading_body(self, end: Callable[[], None]) -> Iterator[None]:
        """The response has its headers: its body may come, and not too slowly, until the end of the block.

        Args:
            end: ends the connection of a server that is too slow.

        Raises:
            TooMuch: the body was broken off here, which may look like its end.
        """
        self._most, self._what = self._bounds.wire, "a head and a body"
        watching = None if self._bounds.rate <= 0 else asyncio.ensure_future(self._watch(end))
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
        if self.fault is not None:
            raise TooMuch(self.fault)

    async def _watch(self, end: Callable[[], None]) -> None:
        least = self._bounds.rate * self._bounds.window
        while True:
            before = self.received
            await asyncio.sleep(self._bounds.window)
            if self.received - before < least:
                self.fault = f"came too slowly: less than {least:g} bytes within {self._bounds.window:g} s"
                end()
                return


class _CountedSocket(socket.socket):
    """asyncio receives by `recv`, and below TLS by `recv_into`."""

    def __init__(self, wire: Wire, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._wire = wire

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self._wire.check()
        data = super().recv(min(size, MAX_READ), flags)
        self._wire.received += len(data)
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0, /) -> int:
        self._wire.check()
        count = super().recv_into(buffer, min(size or len(buffer), MAX_READ), flags)
        self._wire.received += count
        return count

"""Limits the bytes that one request of a URL job receives: they are counted at the socket, before they are parsed.

The body itself has a limit of 10 MiB elsewhere. But a server may send bytes that never become a body: extensions of
chunks, empty blocks of gzip, informational responses, headers, trailers. Bytes of TLS count as encrypted.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from crew.worker.url_jobs.body import MAX_BODY

MAX_HEAD: Final = 256 * 1024  # bytes until the headers are complete, including the TLS handshake and 1xx responses
MAX_TOTAL: Final = 2 * MAX_BODY + MAX_HEAD  # bytes; with chunks of a few bytes, a response is twice its body
MAX_READ: Final = 64 * 1024  # bytes at a time: parsing them blocks the loop for a few milliseconds
MAX_INTERIM: Final = 10  # informational responses (1xx) before the final one
RATE_WINDOW: Final = 300.0  # seconds over which the rate of a body is measured: some servers pause for a minute or two


class WireLimitExceeded(OSError):
    """A server sends too much, or too slowly; the message continues "the response ..."."""


class WireLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of what one request may receive.

    Attributes:
        head: bytes until the headers are complete.
        total: bytes in total.
        rate: minimum bytes per second of a body, as the average of each window; 0: no minimum.
        window: seconds.
    """

    head: int = MAX_HEAD
    total: int = MAX_TOTAL
    rate: float = 0.0
    window: float = RATE_WINDOW


class WireCounter:
    """Counts the bytes that the sockets of one request receive, and enforces the limits.

    Attributes:
        fault: the limit that was exceeded; None: none was.
    """

    def __init__(self, limits: WireLimits) -> None:
        self._limits = limits
        self._most = limits.head
        self._what = "headers"
        self.received = 0
        self.fault: str | None = None

    def socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """Create a socket whose bytes are counted."""
        return _CountedSocket(self, family, kind, protocol)

    def check(self) -> None:
        """Raise WireLimitExceeded if a limit is reached. Called before a read: the last bytes may not be parsed yet."""
        if self.received >= self._most:
            self.fault = f"has more than {self._most} bytes of {self._what}, as transferred"
        if self.fault is not None:
            raise WireLimitExceeded(self.fault)

    @contextlib.contextmanager
    def reading_body(self, end: Callable[[], None]) -> Iterator[None]:
        """Apply the limits for a body until the end of the block: its bytes and its rate.

        Args:
            end: ends the connection if the server is too slow.

        Raises:
            WireLimitExceeded: the connection was ended here, which aiohttp may take for the end of the body.
        """
        self._most, self._what = self._limits.total, "headers and body"
        rate_check = None if self._limits.rate <= 0 else asyncio.ensure_future(self._check_rate(end))
        try:
            yield
        finally:
            if rate_check is not None:
                rate_check.cancel()
        if self.fault is not None:
            raise WireLimitExceeded(self.fault)

    async def _check_rate(self, end: Callable[[], None]) -> None:
        least = self._limits.rate * self._limits.window
        while True:
            before = self.received
            await asyncio.sleep(self._limits.window)
            if self.received - before < least:
                self.fault = f"came too slowly: fewer than {least:g} bytes within {self._limits.window:g} s"
                end()
                return


class _CountedSocket(socket.socket):
    """Counts what it receives: asyncio calls `recv`, and for TLS `recv_into`."""

    def __init__(self, counter: WireCounter, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._counter = counter

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self._counter.check()
        data = super().recv(min(size, MAX_READ), flags)
        self._counter.received += len(data)
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0, /) -> int:
        self._counter.check()
        count = super().recv_into(buffer, min(size or len(buffer), MAX_READ), flags)
        self._counter.received += count
        return count

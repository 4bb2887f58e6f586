"""Connects the request of a URL job to the checked addresses of its host, and to no others.

A name is resolved once. If it were resolved again for the connection, its owner could answer with a public address
first and a private one then (DNS rebinding).
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from crew.protocol.http_job.address import ForbiddenAddress, parsed
from crew.worker.url_jobs.wire_limits import WireCounter

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Connector(AbstractResolver):
    """Resolver and socket factory for aiohttp: opens sockets to `addresses` only; `counter` counts their bytes."""

    def __init__(self, addresses: Sequence[str], counter: WireCounter) -> None:
        self._addresses = addresses
        self._counter = counter
        self._checked = set(map(parsed, addresses))  # one address has several spellings
        self._opened: list[socket.socket] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses, for any host."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for a result of `getaddrinfo`. aiohttp calls no resolver if the URL has an IP address.

        Raises:
            ForbiddenAddress: the address was not checked.
        """
        family, kind, protocol, _, (address, *_) = info
        if parsed(address) not in self._checked:
            raise ForbiddenAddress(f"address {address} is no checked address of the host: not connected")
        opened = self._counter.socket(family, kind, protocol)
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        """Do nothing: `disconnect` ends the connections."""

    def disconnect(self) -> None:
        """End all connections now; data that is not sent yet is lost."""
        for opened in self._opened:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

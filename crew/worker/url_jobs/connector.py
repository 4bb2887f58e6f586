"""The way out of a URL job: to the addresses that were checked, and to no others.

A name is resolved once. Were it looked up again for the connection, whoever owns it could answer with a public address
first and a private one then (DNS rebinding).
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from crew.protocol.http_job.address import ForbiddenAddress, parsed
from crew.worker.url_jobs.wire_limits import Wire

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Door(AbstractResolver):
    """Opens sockets to `addresses`, which count on `wire`; what aiohttp asks when it connects."""

    def __init__(self, addresses: Sequence[str], wire: Wire) -> None:
        self._addresses = addresses
        self._wire = wire
        self._checked = set(map(parsed, addresses))  # one address has several spellings
        self._opened: list[socket.socket] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses, whatever the host."""
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

    def open(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for what `getaddrinfo` told of an address; aiohttp does not ask to resolve one that is spelled out.

        Raises:
            ForbiddenAddress: it was not checked.
        """
        family, kind, protocol, _, (address, *_) = info
        if parsed(address) not in self._checked:
            raise ForbiddenAddress(f"address {address} was not checked, and is not connected to")
        opened = self._wire.socket(family, kind, protocol)
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        """Nothing: `shut` does it."""

    def shut(self) -> None:
        """End all connections now, what was to be sent over them included."""
        for opened in self._opened:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

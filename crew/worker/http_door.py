"""The way out of a URL job: to the addresses that were checked, and to no others.

A name is resolved once. Were it looked up again for the connection, whoever owns it could answer with a public address
first and a private one then (DNS rebinding).
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from crew.protocol.address import ForbiddenAddress, parsed

Resolve = Callable[[str, int], Awaitable[list[str]]]

LOOKUPS: Final = 64  # at a time: a name server that is silent holds a thread for up to half a minute

_threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="crew name lookup")  # begins none before it is used


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, which may be one itself.

    Raises:
        OSError: nobody knows it.
    """
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_threads, _look_up, host, port)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _look_up(host: str, port: int) -> Sequence[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Door(AbstractResolver):
    """Opens sockets to `addresses`; what aiohttp asks when it connects."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
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
        opened = socket.socket(family, kind, protocol)
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        """Nothing: `shut` does it."""

    def shut(self) -> None:
        """End all connections now, what was to be sent over them included."""
        for opened in self._opened:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

"""Resolves the hosts of URL jobs, without a thread and with a timeout.

getaddrinfo(3) blocks a thread for half a minute and more while a name server does not answer, and any submitter of jobs
can name a host of such a server. So c-ares resolves the names: https://c-ares.org. It reads /etc/hosts and
/etc/resolv.conf, but no other source of /etc/nsswitch.conf.
"""

import asyncio
import socket
import weakref
from typing import Final

from aiodns import DNSResolver
from aiodns.error import ARES_ETIMEOUT, DNSError

from crew.protocol.http_job.address import parsed

WITHIN: Final = 5.0  # seconds for one name
TRY_FOR: Final = 1.5  # seconds for the first try at a name server; c-ares waits longer for the next
TRIES: Final = 2  # at each name server

_resolvers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, DNSResolver]] = weakref.WeakKeyDictionary()


class NameTimeout(OSError):
    """No name server has answered within `WITHIN` seconds."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, which may be an address itself.

    Raises:
        socket.gaierror: there is no such host.
        NameTimeout: no name server has answered within `WITHIN` seconds.
    """
    return [host] if parsed(host) is not None else await look_up(_resolver(), host, port)


async def look_up(resolver: DNSResolver, host: str, port: int, *, within: float = WITHIN) -> list[str]:
    """As `resolve`, for a name only, with `resolver`, and a timeout of `within` seconds."""
    try:
        async with asyncio.timeout(within):
            found = await resolver.getaddrinfo(host, socket.AF_UNSPEC, port=port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise NameTimeout from None
    except DNSError as error:
        if error.args and error.args[0] == ARES_ETIMEOUT:
            raise NameTimeout from None
        raise socket.gaierror(socket.EAI_NONAME, "the name is not known") from None
    addresses = (node.addr[0] for node in found.nodes)
    return list(dict.fromkeys(one.decode() if isinstance(one, bytes) else str(one) for one in addresses))


def _resolver() -> DNSResolver:
    """The resolver of the running event loop."""
    loop = asyncio.get_running_loop()
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = DNSResolver(loop=loop, timeout=TRY_FOR, tries=TRIES)
    return resolver

"""Whether an IP address is one of this host: what listens there may trust whoever comes from the host itself.

The system knows, as it binds sockets to its own addresses only. Nothing is sent.
"""

import errno
import socket
from collections.abc import Iterable
from typing import Final

from crew.protocol.http_job.address import meant, parsed

# Reserved addresses, which no host has: RFC 1112, 4, and RFC 6666.
_OF_NOBODY: Final = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::ffff:1"}


def own(addresses: Iterable[str]) -> frozenset[str]:
    """Those of `addresses` that an interface of this host has; what is no address is none of them."""
    return frozenset(address for address in addresses if is_own(address))


def is_own(address: str) -> bool:
    """Whether an interface of this host has `address`, or an IPv4 address that it wraps."""
    found = parsed(address)
    return found is not None and any(_has(str(one)) for one in (found, *meant(found)))


def _has(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not _can_bind(family, address):
        return False
    if _can_bind(family, _OF_NOBODY[family]):  # sysctl ip_nonlocal_bind: binding tells nothing here
        return _is_source_for_itself(family, address)
    return True


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        # Where the system has no more sockets: refuse rather than let a request through to this host.
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
    return True


def _is_source_for_itself(family: socket.AddressFamily, address: str) -> bool:
    """Whether packets from here to `address` have it as their source. A UDP socket that connects sends none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:
        return False

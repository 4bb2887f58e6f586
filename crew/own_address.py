"""Whether an IP address belongs to this host. Services on such an address may trust connections from the host itself.

The operating system binds sockets only to its own addresses, so a bind is the test. Nothing is sent.
"""

import errno
import socket
from collections.abc import Iterable
from typing import Final

from crew.protocol.http_job.address import meant, parsed

# Reserved addresses, which no host has: RFC 1112, 4, and RFC 6666.
_UNASSIGNED: Final = {socket.AF_INET: "240.0.0.1", socket.AF_INET6: "100::ffff:1"}


def own(addresses: Iterable[str]) -> frozenset[str]:
    """The `addresses` that an interface of this host has; text that is not an address is left out."""
    return frozenset(address for address in addresses if is_own(address))


def is_own(address: str) -> bool:
    """Whether an interface of this host has `address`, or the IPv4 address that is embedded in it."""
    found = parsed(address)
    return found is not None and any(_has(str(one)) for one in (found, *meant(found)))


def _has(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not _can_bind(family, address):
        return False
    if _can_bind(family, _UNASSIGNED[family]):  # with sysctl ip_nonlocal_bind any address can be bound
        return _is_source_for_itself(family, address)
    return True


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        # The system has no more sockets: better refuse a request than let it reach this host.
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
    return True


def _is_source_for_itself(family: socket.AddressFamily, address: str) -> bool:
    """Whether packets from this host to `address` have that source address. Connecting a UDP socket sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]) == address
    except OSError:
        return False

"""The hosts that `--allow-host` lets URL jobs reach though they are internal, and those that `--deny-host` forbids."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import ip_network
from typing import Final

import msgspec

from crew.protocol.http_job.address import ForbiddenAddress, IPNetwork, forbidden, meant, parsed

EVERYTHING: Final = "*"
OWN: Final = "an address of this host"
_HOW: Final = "write a name, an address or a network, with a port or without: db.local, 127.0.0.1:8080, 10.0.0.0/8"


class AllowedHost(msgspec.Struct, frozen=True, kw_only=True):
    """One of them.

    Attributes:
        name: of the host, in lower case; `EVERYTHING` for all of them, None where `network` says which.
        network: of the addresses; None where `name` says which.
        port: None for all ports.
    """

    name: str | None = None
    network: IPNetwork | None = None
    port: int | None = None

    def covers(self, host: str, port: int, address: str) -> bool:
        """Whether a connection to `port` of `host`, which is at `address`, is meant."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.name in (EVERYTHING, _normal(host))
        found = parsed(address)
        return found is not None and any(one in self.network for one in (found, *meant(found)))


class AllowedHosts(msgspec.Struct, frozen=True):
    """Which hosts URL jobs may reach: the public ones, unless somebody says otherwise.

    Attributes:
        hosts: that may be reached though their addresses are internal.
        denied: that may not be reached, whatever their addresses are.
    """

    hosts: tuple[AllowedHost, ...] = ()
    denied: tuple[AllowedHost, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str], denied: Iterable[str] = ()) -> "AllowedHosts":
        """Read what a command line or the environment says of allowed and of denied hosts.

        A name means whatever addresses it has, an address or a network whatever names lead there, and `*` all. With a
        port (`name:8080`, `[::1]:8080`) that port alone.

        Raises:
            ValueError: one of them is neither.
        """
        return cls(tuple(map(_read, texts)), tuple(map(_read, denied)))

    def choose(
        self, host: str, port: int, addresses: Sequence[str], *, own: AbstractSet[str] = frozenset()
    ) -> list[str]:
        """Those of `addresses`, to which `host` was resolved, that may be connected to.

        Args:
            host: of the URL.
            port: of the URL.
            addresses: of the host.
            own: those of them that this process's own host has: internal, though they may be public.

        Raises:
            ForbiddenAddress: none may. What `host` leads to is named by its kind alone: who may submit a job need not
                learn how a network looks inside.
        """
        addresses = [one for one in addresses if not any(denied.covers(host, port, one) for denied in self.denied)]
        if self.denied and not addresses:
            raise ForbiddenAddress(
                f"host {host!r} may not be reached by URL jobs: --deny-host or CREW_DENY_HOSTS forbids it"
            )
        kinds = {address: forbidden(address) or (OWN if address in own else None) for address in addresses}
        chosen = [
            address
            for address, kind in kinds.items()
            if kind is None or any(one.covers(host, port, address) for one in self.hosts)
        ]
        if not chosen:
            kind = next(filter(None, kinds.values()), "no address")
            raise ForbiddenAddress(
                f"host {host!r} has {kind}, which URL jobs may not reach: --allow-host or CREW_ALLOW_HOSTS can allow it"
            )
        return chosen


def _read(text: str) -> AllowedHost:
    whole = text.strip()
    bare = whole[1:-1] if whole.startswith("[") and whole.endswith("]") else whole
    if (network := _network(bare)) is not None:
        return AllowedHost(network=network)
    host, colon, port = whole.rpartition(":")
    if not colon:
        return AllowedHost(name=_name(whole, text))
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} names no host: {_HOW}")
    if (network := _network(host.removeprefix("[").removesuffix("]"))) is not None:
        return AllowedHost(network=network, port=int(port))
    return AllowedHost(name=_name(host, text), port=int(port))


def _network(text: str) -> IPNetwork | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _name(host: str, text: str) -> str:
    if host == EVERYTHING:
        return EVERYTHING
    name = _normal(host)
    if not name or not name.isascii() or not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ValueError(f"{text!r} names no host: {_HOW}")
    return name


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")

"""Allow list and deny list of URL jobs: internal hosts of `--allow-host`, forbidden hosts of `--deny-host`."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import ip_network
from typing import Final

import msgspec

from crew.protocol.http_job.address import ForbiddenAddress, IPNetwork, forbidden, meant, parsed

EVERYTHING: Final = "*"
OWN: Final = "an address of this host"
_HOW: Final = "write a name, an address or a network, with or without a port: db.local, 127.0.0.1:8080, 10.0.0.0/8"


class AllowedHost(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the allow list or the deny list.

    Attributes:
        name: name of the host in lower case; `EVERYTHING` for all hosts; None where `network` is set.
        network: network of the addresses; None where `name` is set.
        port: port; None for all ports.
    """

    name: str | None = None
    network: IPNetwork | None = None
    port: int | None = None

    def covers(self, host: str, port: int, address: str) -> bool:
        """Whether the entry matches a connection to `port` of `host` at `address`."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.name in (EVERYTHING, _normal(host))
        found = parsed(address)
        return found is not None and any(one in self.network for one in (found, *meant(found)))


class AllowedHosts(msgspec.Struct, frozen=True):
    """The hosts that URL jobs may reach: by default all public hosts.

    Attributes:
        hosts: hosts that are allowed though their addresses are internal.
        denied: hosts that are forbidden, with any address.
    """

    hosts: tuple[AllowedHost, ...] = ()
    denied: tuple[AllowedHost, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str], denied: Iterable[str] = ()) -> "AllowedHosts":
        """Parse allowed and denied hosts from the command line or the environment.

        A name matches all its addresses. An address or a network matches all names that lead there. `*` matches
        everything. With a port (`name:8080`, `[::1]:8080`) only this port matches.

        Raises:
            ValueError: a text is not a name, an address or a network.
        """
        return cls(tuple(map(_read, texts)), tuple(map(_read, denied)))

    def choose(
        self, host: str, port: int, addresses: Sequence[str], *, own: AbstractSet[str] = frozenset()
    ) -> list[str]:
        """Return the `addresses` of `host` that a URL job may connect to.

        Args:
            host: host of the URL.
            port: port of the URL.
            addresses: addresses to which `host` was resolved.
            own: addresses of the host that runs this process: they count as internal, even if they are public.

        Raises:
            ForbiddenAddress: no address is allowed. The error contains only the kind of address, because the sender of
                a job must not learn the structure of the internal network.
        """
        addresses = [one for one in addresses if not any(denied.covers(host, port, one) for denied in self.denied)]
        if self.denied and not addresses:
            raise ForbiddenAddress(
                f"host {host!r} is not allowed for URL jobs: --deny-host or CREW_DENY_HOSTS forbids it"
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
        raise ValueError(f"{text!r} is not a valid host: {_HOW}")
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
        raise ValueError(f"{text!r} is not a valid host: {_HOW}")
    return name


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")

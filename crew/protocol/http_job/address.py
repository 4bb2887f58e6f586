"""The SSRF check of URL jobs: they must not reach internal or reserved IP addresses.

The URL of a job comes from outside, but its request comes from inside the network. There routers, databases and the
metadata services of clouds trust every client: https://owasp.org/www-community/attacks/Server_Side_Request_Forgery. The
ranges are those of https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry;
Python's own `is_global` has changed between 3.11 and 3.13, and does not check embedded addresses.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_METADATA: Final = {
    ip_address(text)
    for text in (
        "169.254.169.254",  # EC2, GCP, Azure and most others
        "169.254.170.2",  # credentials of ECS tasks
        "fd00:ec2::254",  # EC2
        "fd20:ce::254",  # GCP
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure's own services, in a public range
    )
}
_RANGES: Final[list[tuple[IPNetwork, str]]] = [
    (ip_network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", "an unspecified"),
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier's private"),
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a reserved"),
        ("192.88.99.0/24", "a reserved"),
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a reserved"),
        ("198.51.100.0/24", "a reserved"),
        ("203.0.113.0/24", "a reserved"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("2001:db8::/32", "a reserved"),
        ("2001::/23", "a reserved"),
        ("3fff::/20", "a reserved"),
        ("fc00::/7", "a private"),
        ("fe80::/10", "a link-local"),
        ("fec0::/10", "a private"),
        ("ff00::/8", "a multicast"),
    )
]
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")  # the only range from which registries assign addresses
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052
_ISATAP: Final = 0x00005EFE  # in front of an IPv4 address in the last 64 bits, behind any prefix: RFC 5214, 6.1
_ISATAP_MASK: Final = 0xFCFFFFFF  # the bits that say "universal" and "group" may be either


class ForbiddenAddress(ValueError):
    """A URL leads to an address that URL jobs may not reach."""


def parsed(text: str) -> IPAddress | None:
    """Parse an address, with or without the zone of an interface; return None for a name."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def forbidden(address: str) -> str | None:
    """Return the kind of a forbidden `address` ("a loopback address"), or None where URL jobs may reach it.

    Spellings outside the standards (127.1, 0x7f000001) are "no address".
    """
    found = parsed(address)
    if found is None:
        return "no address"
    return next((kind for one in meant(found) if (kind := _kind(one)) is not None), None)


def meant(address: IPAddress) -> list[IPAddress]:
    """Return where a packet to `address` may arrive: the IPv4 addresses embedded in an IPv6 address, else itself.

    Recognised: IPv4-mapped, NAT64 with the well-known prefix, 6to4, Teredo and ISATAP. IPv4-compatible and
    IPv4-translated addresses, and NAT64 with the prefix for local use, are in no public range.
    """
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if (int(address) >> 32) & _ISATAP_MASK == _ISATAP:
        return [address, IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _kind(address: IPAddress) -> str | None:
    if address in _METADATA:
        return "a metadata address"
    kind = next((kind for network, kind in _RANGES if address in network), None)
    if kind is None and isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
        kind = "a reserved"
    return None if kind is None else f"{kind} address"

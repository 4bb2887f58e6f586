"""Addresses that URL jobs must not reach."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol.http_job.address import forbidden, meant, parsed

PUBLIC = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1"]
PUBLIC_V6 = ["2606:2800:220:1::1", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888"]

FORBIDDEN = {
    "127.0.0.1": "a loopback address",
    "127.255.255.254": "a loopback address",
    "::1": "a loopback address",
    "10.1.2.3": "a private address",
    "172.16.0.1": "a private address",
    "172.31.255.255": "a private address",
    "192.168.1.1": "a private address",
    "fd00::1": "a private address",
    "fec0::1": "a private address",
    "169.254.1.1": "a link-local address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "169.254.169.254": "a metadata address",
    "169.254.170.2": "a metadata address",
    "fd00:ec2::254": "a metadata address",
    "100.100.100.200": "a metadata address",
    "168.63.129.16": "a metadata address",
    "100.64.0.1": "a carrier's private address",
    "224.0.0.1": "a multicast address",
    "ff02::1": "a multicast address",
    "0.0.0.0": "an unspecified address",
    "0.1.2.3": "an unspecified address",
    "::": "an unspecified address",
    "240.0.0.1": "a reserved address",
    "255.255.255.255": "a reserved address",
    "192.0.2.1": "a reserved address",
    "198.18.0.1": "a reserved address",
    "2001:db8::1": "a reserved address",
    "4000::1": "a reserved address",
    "::7f00:1": "a reserved address",
    "::10.0.0.1": "a reserved address",  # IPv4-compatible
    "::93.184.216.34": "a reserved address",
    "::ffff:0:10.0.0.1": "a reserved address",  # IPv4-translated
    "::ffff:0:93.184.216.34": "a reserved address",
    "64:ff9b:1::10.0.0.1": "a reserved address",  # NAT64 of a network of its own
    "::ffff:10.0.0.1%eth0": "a private address",
    "2001:470:1:2:200:5efe:127.0.0.1%1": "a loopback address",
    "fe80::5efe:93.184.216.34": "a link-local address",
}


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert forbidden(address) is None


@pytest.mark.parametrize(("address", "kind"), FORBIDDEN.items())
def test_internal_addresses_are_forbidden_and_the_kind_is_named(address: str, kind: str) -> None:
    assert forbidden(address) == kind


def wrapped(address: str) -> dict[str, str]:
    """IPv6 addresses whose packets reach the IPv4 `address`."""
    number = int(ipaddress.IPv4Address(address))
    v6 = ipaddress.IPv6Address
    return {
        "mapped": str(v6(0xFFFF << 32 | number)),
        "mapped, with dots": f"::ffff:{address}",
        "NAT64": str(v6(int(v6("64:ff9b::")) | number)),
        "6to4": str(v6(0x2002 << 112 | number << 80)),
        "ISATAP": str(v6(0x2A0102030405_0000 << 64 | 0x5EFE << 32 | number)),
        "ISATAP, universal": str(v6(0x2A0102030405_0000 << 64 | 0x02005EFE << 32 | number)),
        "ISATAP in a subnet": f"2001:470:1:2:0:5efe:{address}",
        "Teredo client": str(v6(0x20010000 << 96 | int(ipaddress.IPv4Address("8.8.8.8")) << 64 | number ^ 0xFFFFFFFF)),
        "Teredo server": str(v6(0x20010000 << 96 | number << 64 | int(ipaddress.IPv4Address("8.8.8.8")) ^ 0xFFFFFFFF)),
    }


@pytest.mark.parametrize("way", wrapped("127.0.0.1"))
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1"])
def test_an_internal_address_is_forbidden_in_any_ipv6_form(address: str, way: str) -> None:
    assert forbidden(wrapped(address)[way]) == forbidden(address)


@pytest.mark.parametrize("way", wrapped("127.0.0.1"))
def test_a_public_address_may_be_reached_through_ipv6(way: str) -> None:
    assert forbidden(wrapped("93.184.216.34")[way]) is None


@pytest.mark.parametrize(
    ("address", "arrives_at"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("2606:2800:220:1::1", ["2606:2800:220:1::1"]),
        ("::ffff:10.0.0.1", ["10.0.0.1"]),
        ("64:ff9b::ffff:ffff", ["255.255.255.255"]),
        ("64:ff9b:0:0:0:1:a00:1", ["64:ff9b::1:a00:1"]),  # outside the prefix
        ("2002:a00:1::5", ["10.0.0.1"]),
        ("2001:0:808:808::f5ff:fffe", ["8.8.8.8", "10.0.0.1"]),  # Teredo: the server and the client
        ("2a00::5efe:a00:1", ["2a00::5efe:a00:1", "10.0.0.1"]),
        ("2a00::300:5efe:ffff:ffff", ["2a00::300:5efe:ffff:ffff", "255.255.255.255"]),  # "universal" and "group" set
        ("2a00::5eff:a00:1", ["2a00::5eff:a00:1"]),
    ],
)
def test_a_packet_arrives_at_the_address_that_is_embedded(address: str, arrives_at: list[str]) -> None:
    assert [str(one) for one in meant(ipaddress.ip_address(address))] == arrives_at


def test_the_zone_of_an_interface_is_no_part_of_an_address() -> None:
    assert parsed("fe80::1%eth0%1") == parsed("fe80::1") == ipaddress.ip_address("fe80::1")


@pytest.mark.parametrize("text", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "", "127.0.0.1."])
def test_other_spellings_of_an_address_are_forbidden(text: str) -> None:
    assert parsed(text) is None
    assert forbidden(text) == "no address"


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
@settings(max_examples=500)
def test_addresses_that_python_calls_internal_are_forbidden(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert forbidden(str(address)) is not None or _wraps_a_public_one(address)


def _wraps_a_public_one(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and any(
        wrapping is not None for wrapping in (address.ipv4_mapped, address.teredo, address.sixtofour)
    )

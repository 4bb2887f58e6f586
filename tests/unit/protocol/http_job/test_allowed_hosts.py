"""Internal hosts that URL jobs may reach."""

import re
from ipaddress import ip_network

import pytest

from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHost, AllowedHosts


def chosen(allowed: str, host: str, port: int, *addresses: str) -> list[str]:
    """Addresses that a URL job may use, with `allowed` as in the environment variable."""
    return AllowedHosts.of(filter(None, allowed.split(","))).choose(host, port, addresses)


def test_no_internal_host_is_allowed_by_default() -> None:
    with pytest.raises(ForbiddenAddress, match=r"host 'db\.local' has a private address.*--allow-host"):
        chosen("", "db.local", 80, "10.0.0.7")
    assert chosen("", "example.org", 80, "93.184.216.34") == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address"),
    [
        ("db.local", "db.local", 80, "10.0.0.7"),
        ("DB.local", "db.local.", 80, "10.0.0.7"),
        ("db.local:8080", "db.local", 8080, "10.0.0.7"),
        ("10.0.0.7", "db.local", 80, "10.0.0.7"),
        ("10.0.0.7:80", "10.0.0.7", 80, "10.0.0.7"),
        ("10.0.0.0/8", "db.local", 80, "10.0.0.7"),
        ("10.0.0.7/8", "db.local", 80, "10.0.0.8"),
        ("10.0.0.0/8:80", "db.local", 80, "10.0.0.7"),
        ("::1", "::1", 80, "::1"),
        ("[::1]", "::1", 80, "::1"),
        ("[::1]:80", "::1", 80, "::1"),
        ("fd00::/8", "db.local", 80, "fd00::1"),
        ("10.0.0.7", "db.local", 80, "::ffff:10.0.0.7"),
        ("x,10.0.0.7", "db.local", 80, "10.0.0.7"),
        ("*", "db.local", 80, "169.254.169.254"),
        ("*:80", "db.local", 80, "127.0.0.1"),
        ("_x-1.local", "_x-1.local", 80, "10.0.0.7"),
    ],
)
def test_a_name_an_address_a_network_or_every_host_can_be_allowed(
    allowed: str, host: str, port: int, address: str
) -> None:
    assert chosen(allowed, host, port, address) == [address]


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address"),
    [
        ("db.local", "x.db.local", 80, "10.0.0.7"),
        ("db.local:8080", "db.local", 80, "10.0.0.7"),
        ("10.0.0.7:80", "10.0.0.7", 81, "10.0.0.7"),
        ("10.0.0.0/8", "db.local", 80, "127.0.0.1"),
        ("10.0.0.7", "10.0.0.7", 80, "10.0.0.8"),
        ("::1", "::2", 80, "::2"),
        ("*:80", "db.local", 81, "127.0.0.1"),
    ],
)
def test_an_allowed_host_does_not_allow_other_hosts_or_ports(allowed: str, host: str, port: int, address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        chosen(allowed, host, port, address)


def test_a_host_with_public_and_internal_addresses_is_reached_at_the_public_ones() -> None:
    assert chosen("", "both.org", 80, "10.0.0.7", "93.184.216.34", "::1") == ["93.184.216.34"]


def test_a_host_without_addresses_is_not_reached() -> None:
    with pytest.raises(ForbiddenAddress):
        chosen("", "none.org", 80)


def test_the_error_for_a_name_does_not_contain_its_address() -> None:
    with pytest.raises(ForbiddenAddress) as refused:
        chosen("", "db.local", 80, "10.0.0.7")
    assert "10.0" not in str(refused.value)


@pytest.mark.parametrize("text", ["", " ", "http://db.local/", "db.local:http", "db.local:0", "db local", "a/8", "ü"])
def test_an_invalid_allowed_host_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid host: write a name, an address or a network"):
        AllowedHosts.of([text])


def test_an_address_of_this_host_is_internal_unless_it_is_allowed() -> None:
    own = frozenset(["93.184.216.34"])
    with pytest.raises(ForbiddenAddress, match=r"host 'a\.example' has an address of this host, which URL jobs"):
        AllowedHosts().choose("a.example", 80, ["93.184.216.34"], own=own)
    assert AllowedHosts().choose("a.example", 80, ["93.184.216.34", "8.8.8.8"], own=own) == ["8.8.8.8"]
    allowed = AllowedHosts.of(["a.example"])
    assert allowed.choose("a.example", 80, ["93.184.216.34"], own=own) == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("denied", "is_denied"),
    [
        ("a.example", True),
        ("A.example", True),
        ("93.184.216.34", True),
        ("93.184.0.0/16", True),
        ("93.184.0.0/16:443", False),
        ("a.example:80", True),
        ("b.example", False),
        ("*", True),
    ],
)
@pytest.mark.parametrize("allowed", [(), ("*",)])
def test_a_denied_host_is_not_reached_even_if_it_is_allowed(
    denied: str, is_denied: bool, allowed: tuple[str, ...]
) -> None:
    hosts = AllowedHosts.of(allowed, [denied])
    if not is_denied:
        assert hosts.choose("a.example", 80, ["93.184.216.34"]) == ["93.184.216.34"]
        return
    with pytest.raises(ForbiddenAddress, match=r"host 'a\.example' is not allowed for URL jobs: --deny-host"):
        hosts.choose("a.example", 80, ["93.184.216.34"])
    with pytest.raises(ForbiddenAddress):
        hosts.choose("a.example", 80, ["::ffff:93.184.216.34"])


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("db.local", AllowedHost(name="db.local")),
        (" DB.local. ", AllowedHost(name="db.local")),
        ("db.local.:1", AllowedHost(name="db.local", port=1)),
        ("db.local:65535", AllowedHost(name="db.local", port=65_535)),
        ("*", AllowedHost(name="*")),
        ("*:80", AllowedHost(name="*", port=80)),
        ("10.0.0.7", AllowedHost(network=ip_network("10.0.0.7/32"))),
        ("10.1.2.3/8:80", AllowedHost(network=ip_network("10.0.0.0/8"), port=80)),
        ("::1", AllowedHost(network=ip_network("::1/128"))),
        ("[::1]", AllowedHost(network=ip_network("::1/128"))),
        ("[fd00::/8]:80", AllowedHost(network=ip_network("fd00::/8"), port=80)),
    ],
)
def test_a_text_is_a_name_or_a_network_with_or_without_a_port(text: str, host: AllowedHost) -> None:
    assert AllowedHosts.of([text], [text]) == AllowedHosts((host,), (host,))


@pytest.mark.parametrize(
    "text",
    [
        "a:65536",
        "a:0",
        "a:-1",
        "a:",
        ":80",
        "a:²",
        "a:٣",
        "[a",
        "a]",
        "[::1",
        "a b:80",
        "ü:80",
        ".",
        "a*",
        "-",
        "_",
        "..",
    ],
)
def test_a_text_that_is_not_a_host_is_a_value_error_that_shows_it(text: str) -> None:
    sentence = (
        f"{text!r} is not a valid host: write a name, an address or a network, with or without a port: db.local, "
        "127.0.0.1:8080, 10.0.0.0/8"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        AllowedHosts.of([text])


def test_only_denied_addresses_of_a_host_are_left_out() -> None:
    hosts = AllowedHosts.of([], ["93.184.216.34"])
    assert hosts.choose("a.example", 80, ["93.184.216.34", "8.8.8.8"]) == ["8.8.8.8"]


def test_the_errors_name_the_host_and_the_option_that_helps() -> None:
    denied = "host 'a.example' is not allowed for URL jobs: --deny-host or CREW_DENY_HOSTS forbids it"
    with pytest.raises(ForbiddenAddress, match=f"^{re.escape(denied)}$"):
        AllowedHosts.of([], ["*"]).choose("a.example", 80, ["8.8.8.8"])
    internal = "which URL jobs may not reach: --allow-host or CREW_ALLOW_HOSTS can allow it"
    with pytest.raises(ForbiddenAddress, match=f"^host 'a.example' has a loopback address, {internal}$"):
        chosen("", "a.example", 80, "127.0.0.1", "10.0.0.7")
    with pytest.raises(ForbiddenAddress, match=f"^host 'a.example' has no address, {internal}$"):
        chosen("", "a.example", 80)


def test_a_network_does_not_cover_text_that_is_no_address() -> None:
    assert not AllowedHost(network=ip_network("10.0.0.0/8")).covers("10.0.0.7", 80, "no address")

"""URL jobs treat the addresses of this host's interfaces as internal, even public ones."""

import ipaddress
import shutil
import subprocess
import sys

import pytest

from crew.own_address import is_own, own

NAMESPACE = ("unshare", "--net")  # no packet leaves this namespace
SCRIPT = """
import asyncio, sys
from crew.own_address import own
from crew.protocol.http_job.address import ForbiddenAddress
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import check_request
from crew.worker.url_jobs.exchange import Exchange
from tests.support.http_site import saying

FIRST, SECOND, SIXTH = "93.184.216.34", "93.184.216.35", "2606:2800:220:1::1"
print(sorted(own([FIRST, SECOND, SIXTH, "8.8.8.8", "2001:4860:4860::8888", "nonsense"])))

async def main():
    async with saying(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok", host=FIRST) as site:
        for host in (FIRST, f"[::ffff:{FIRST}]", "[2002:5db8:d822::1]"):
            try:
                await Exchange(AllowedHosts()).perform(check_request(url=site.url("/", host=host)))
            except ForbiddenAddress as error:
                print(error)
        print(len(site.seen))
        allowed = Exchange(AllowedHosts.of([FIRST]))
        print((await allowed.perform(check_request(url=site.url("/", host=FIRST))))["body"])

asyncio.run(main())
"""
MAPPED = str(ipaddress.ip_address("::ffff:93.184.216.34"))  # written with dots by Python 3.13 only
REFUSED = "which URL jobs may not reach: --allow-host or CREW_ALLOW_HOSTS can allow it"


def in_namespace(setup: str) -> list[str]:
    """The output lines of the script in its own network namespace; skips the test if there can be none."""
    if shutil.which("ip") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a network namespace needs root, `unshare` and `ip`")
    ran = subprocess.run(
        [*NAMESPACE, "sh", "-ec", f"{setup}; exec {sys.executable} -c '{SCRIPT}'"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize("extra", ["true", "sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1"])
def test_a_url_job_does_not_reach_public_addresses_of_its_own_host(extra: str) -> None:
    setup = "; ".join(
        [
            "ip link set lo up",
            "ip address add 93.184.216.34/32 dev lo",
            "ip address add 93.184.216.35/32 dev lo",
            "ip -6 address add 2606:2800:220:1::1/128 dev lo nodad",
            extra,
        ]
    )
    addresses, *refusals, asked, answer = in_namespace(setup)
    assert addresses == "['2606:2800:220:1::1', '93.184.216.34', '93.184.216.35']"
    assert refusals == [
        f"host {host!r} has an address of this host, {REFUSED}"
        for host in ("93.184.216.34", MAPPED, "2002:5db8:d822::1")
    ]
    assert (asked, answer) == ("0", "ok")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::ffff:127.0.0.1"])
def test_loopback_addresses_belong_to_this_host(address: str) -> None:
    assert is_own(address)


def test_other_addresses_and_invalid_ones_do_not_belong_to_this_host() -> None:
    assert own(["192.0.2.1", "2001:db8::1", "host.example", "", "\0", "ü" * 300]) == frozenset()

"""Resolving host names, with name servers that do not answer."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiodns import DNSResolver

from crew.worker.url_jobs.exchange import Exchange
from crew.worker.url_jobs.resolver import NameTimeout, look_up, resolve
from tests.support.http_site import http_site
from tests.unit.worker.url_jobs.test_exchange import LOCAL, fetch, refused

MANY = 300  # names; more than any number of threads


@contextmanager
def silent_name_server() -> Iterator[int]:
    """The port of a name server that does not answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.gen_test(timeout=30)
async def test_names_of_a_silent_name_server_block_nothing() -> None:
    with silent_name_server() as port:
        silent = DNSResolver(["127.0.0.1"], udp_port=port, tcp_port=port, timeout=30, tries=1)
        names = [f"n{number}.example" for number in range(MANY)]
        lookups = [asyncio.ensure_future(look_up(silent, name, 80, within=1.0)) for name in names]
        await asyncio.sleep(0)
        began = time.monotonic()
        assert "127.0.0.1" in await resolve("localhost", 80)
        async with http_site() as site:
            assert (await fetch(site.url("/echo"), exchange=Exchange(LOCAL)))["code"] == 200
        assert time.monotonic() - began < 1.0
        ends = await asyncio.gather(*lookups, return_exceptions=True)
        assert {type(end) for end in ends} == {NameTimeout}
        await silent.close()


@pytest.mark.gen_test
async def test_a_host_of_a_silent_name_server_is_a_dns_timeout() -> None:
    async def late(host: str, port: int) -> list[str]:
        raise NameTimeout

    message = await refused("http://slow.example/?t0ken", exchange=Exchange(LOCAL, resolve=late))
    assert message == ("GET http://slow.example/?*** failed: DNS timeout: no name server resolved its host within 5 s")


@pytest.mark.gen_test
async def test_an_address_resolves_to_itself_and_an_unknown_name_is_an_error() -> None:
    assert await resolve("93.184.216.34", 80) == ["93.184.216.34"]
    assert await resolve("::1", 80) == ["::1"]
    with pytest.raises(socket.gaierror):
        await resolve("no such host.invalid", 80)

"""Limits of what a server may send to a URL job: all received bytes count, not only the body."""

import asyncio
import socket
import ssl
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from crew.protocol.http_job.request import check_request
from crew.worker.url_jobs.body import MAX_CHUNKS
from crew.worker.url_jobs.errors import RequestFailed
from crew.worker.url_jobs.exchange import Exchange
from crew.worker.url_jobs.wire_limits import MAX_HEAD, MAX_INTERIM, MAX_READ, WireCounter, WireLimits
from tests.support.certificates import Certificates
from tests.support.http_site import Site, http_site, pouring, saying
from tests.unit.worker.url_jobs.test_exchange import LOCAL, fetch, refused

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
EMPTY_BLOCKS = b"a000\r\n" + b"\0\0\0\xff\xff" * 8192 + b"\r\n"
LATE = 0.1  # seconds: no timer of the loop is later
BUFFERS = 16 * 1024 * 1024  # bytes that fit into the buffers between a server and a client that has stopped reading


class Turns:
    """Measures how late a timer of this loop runs, in seconds of CPU time, as the machine has other work."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> "Turns":
        self._ticking = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._ticking.cancel()

    async def _tick(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, time.thread_time() - before)


def sent_by(site: Site) -> int:
    """Bytes that an endless response had sent before its client closed the connection."""
    return int(site.left[0][0])


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (CHUNKED + b"\r\n", b"1;" + b"x" * 4000 + b"\r\na\r\n"),  # extensions of chunks
        (CHUNKED + b"\r\n0\r\n", b"a: b\r\n" * 1000),  # trailers
        (
            CHUNKED + b"Content-Encoding: deflate\r\n\r\n",
            b"a000\r\n" + b"\0\0\0\xff\xff" * 8192 + b"\r\n",
        ),  # empty blocks
        (
            CHUNKED + b"Content-Encoding: deflate\r\n\r\n3\r\n\x03\x00x\r\n",
            b"8000\r\n" + b"z" * 0x8000 + b"\r\n",
        ),  # data after the end of the compressed body
    ],
    ids=["extensions", "trailers", "empty blocks", "trailing data"],
)
async def test_bytes_that_become_no_body_are_limited(head: bytes, piece: bytes) -> None:
    wire = 1024 * 1024
    async with Turns() as turns, pouring(head, piece) as site:
        with pytest.raises(
            RequestFailed, match=r"failed: the response (has more than .* headers and body|.* too many headers)"
        ):
            await fetch(site.url("/"), exchange=Exchange(LOCAL, limits=WireLimits(total=wire)))
    assert sent_by(site) < wire + BUFFERS
    assert turns.longest < LATE


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"], ids=["103", "100"]
)
async def test_endless_informational_responses_end_the_request(piece: bytes) -> None:
    async with pouring(b"", piece) as site:
        message = await refused(site.url("/"))
    assert f"sent more than {MAX_INTERIM} informational responses" in message


@pytest.mark.gen_test
async def test_a_few_informational_responses_are_skipped() -> None:
    async with saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INTERIM + OK + b"Content-Length: 2\r\n\r\nok") as site:
        assert (await fetch(site.url("/")))["body"] == "ok"
    async with saying(
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM + 1) + OK + b"Content-Length: 2\r\n\r\nok"
    ) as site:
        assert "informational" in await refused(site.url("/"))


@pytest.mark.gen_test(timeout=60)
async def test_headers_are_limited_in_bytes_and_number() -> None:
    many = b"".join(b"A%d: b\r\n" % number for number in range(129))
    async with saying(OK + many + b"\r\n") as site:
        assert "too many headers" in await refused(site.url("/"))
    long = b"".join(b"A%d: %s\r\n" % (number, b"b" * 30_000) for number in range(100))
    async with saying(OK + long + b"\r\n") as site:
        assert f"has more than {MAX_HEAD} bytes of headers" in await refused(site.url("/"))


@pytest.mark.gen_test(timeout=60)
async def test_chunks_are_limited_in_number_and_block_the_loop_shortly() -> None:
    async with Turns() as turns, pouring(CHUNKED + b"\r\n", b"1\r\na\r\n" * 10_000) as site:
        message = await refused(site.url("/"))
    assert f"the body of the response has more than {MAX_CHUNKS} chunks" in message
    assert turns.longest < LATE


@pytest.mark.gen_test
async def test_a_body_in_small_chunks_is_complete() -> None:
    async with saying(CHUNKED + b"\r\n" + b"2\r\nab\r\n" * 5000 + b"0\r\n\r\n") as site:
        assert (await fetch(site.url("/")))["body"] == "ab" * 5000


@pytest.mark.gen_test
@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"Content-Length: 100000\r\n\r\n"])
async def test_a_body_that_comes_too_slowly_ends_the_request(head: bytes) -> None:
    exchange = Exchange(LOCAL, limits=WireLimits(rate=1000, window=0.2))
    async with pouring(head, b"a", every=0.01) as site:
        with pytest.raises(RequestFailed, match=r"the response came too slowly: fewer than 200 bytes within 0.2 s"):
            await fetch(site.url("/"), exchange=exchange)


@pytest.mark.gen_test
async def test_a_delay_before_the_response_is_not_too_slow() -> None:
    exchange = Exchange(LOCAL, limits=WireLimits(rate=1000, window=0.05))
    async with http_site() as site:
        assert (await fetch(site.url("/slow?for=0.3"), exchange=exchange))["body"] == "slow"


@pytest.mark.gen_test
async def test_a_compressed_body_is_never_larger_than_the_limit_as_transferred() -> None:
    packed = zlib.compress(b"text")
    async with saying(OK + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(packed), packed) as site:
        assert (await fetch(site.url("/")))["body"] == "text"


def test_bytes_received_over_tls_count(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    wire = WireCounter(WireLimits(head=10_000))

    async def exchanged() -> int:
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(certificates.server, certificates.key_of(certificates.server))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(5000))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
        loop = asyncio.get_running_loop()
        connection = wire.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        connection.setblocking(False)
        await loop.sock_connect(connection, server.sockets[0].getsockname())
        trust = ssl.create_default_context(cafile=str(certificates.ca))
        reader, writer = await asyncio.open_connection(sock=connection, ssl=trust, server_hostname="localhost")
        assert await reader.readexactly(5000) == bytes(5000)
        writer.close()
        server.close()
        return wire.received

    assert 5000 < asyncio.run(exchanged()) < 10_000 + MAX_READ
    assert check_request(url="https://localhost/").target.scheme == "https"

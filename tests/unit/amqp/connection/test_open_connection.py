"""Connecting to what is no broker: real sockets, each with a stranger behind it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crew.amqp.connection.connection import open_connection
from crew.amqp.errors import LinkError, LinkRefused
from tests.support.certificates import Certificates


@contextlib.asynccontextmanager
async def stranger(says: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that reads a little, says this and closes; None: that says nothing and stays."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if says is None:
            await over.wait()
        elif says:
            writer.write(says)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await asyncio.sleep(0)


async def why_not(url: str) -> str:
    """What is said of an attempt to connect to `url`; another one may help."""
    with pytest.raises(LinkError) as raised:
        await open_connection(url, name="n", heartbeat=10)
    assert not isinstance(raised.value, LinkRefused)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "the port speaks HTTP"),
        (b"AMQP\x00\x01\x00\x00", "the broker speaks AMQP 1-0-0, but crew speaks AMQP 0-9-1"),
        (b"AMQP\x01\x01\x00\x08", "the broker speaks AMQP 1-0-8, but crew speaks AMQP 0-9-1"),
        (b"220 mail.example ESMTP\r\n", "does not speak AMQP"),
        (b"\x15\x03\x03\x00\x02\x02\x0a", "the port speaks TLS: write amqps://"),
        (b"", "closed the connection without a reply"),
    ],
)
async def test_what_is_no_broker_is_named_at_once(says: bytes, told: str) -> None:
    async with stranger(says) as port:
        async with asyncio.timeout(2):
            assert told in await why_not(f"amqp://me:secret@127.0.0.1:{port}/")


@pytest.mark.gen_test
async def test_who_says_nothing_is_given_up_in_the_time_that_the_url_allows() -> None:
    async with stranger(None) as port:
        async with asyncio.timeout(2):
            told = await why_not(f"amqp://127.0.0.1:{port}/?connection_timeout=200")
        assert "did not answer" in told


@pytest.mark.gen_test
@pytest.mark.parametrize("says", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_who_does_not_answer_with_tls_is_no_hang(says: bytes | None) -> None:
    async with stranger(says) as port:
        async with asyncio.timeout(3):
            told = await why_not(f"amqps://127.0.0.1:{port}/?verify=verify_none&connection_timeout=200")
        assert any(part in told for part in ("did not answer", "does not speak TLS", "closed", "reset")), told


@pytest.mark.gen_test
async def test_who_ends_the_connection_after_the_handshake_may_want_a_certificate(tmp_path: Path) -> None:
    """Its reason, an alert, may be lost on the way: what we had sent meanwhile resets the connection."""
    certificates = Certificates(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key_of(certificates.server))
    async with stranger(b"", context) as port:
        told = await why_not(f"amqps://localhost:{port}/?cacertfile={certificates.ca}")
        assert "it may require a client certificate" in told

"""Connecting to a server that is not a broker, over real sockets."""

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
async def other_server(reply: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that reads 8 bytes, sends `reply` and closes; with None it sends nothing. Yields its port."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if reply is None:
            await is_over.wait()
        elif reply:
            writer.write(reply)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        is_over.set()
        server.close()
        await asyncio.sleep(0)


async def error_of(url: str) -> str:
    """The error of an attempt to connect to `url`; it is temporary and has one line."""
    with pytest.raises(LinkError) as raised:
        await open_connection(url, name="n", heartbeat=10)
    assert not isinstance(raised.value, LinkRefused)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "the port speaks HTTP"),
        (b"AMQP\x00\x01\x00\x00", "the broker speaks AMQP 1-0-0, but crew speaks AMQP 0-9-1"),
        (b"AMQP\x01\x01\x00\x08", "the broker speaks AMQP 1-0-8, but crew speaks AMQP 0-9-1"),
        (b"220 mail.example ESMTP\r\n", "does not speak AMQP"),
        (b"\x15\x03\x03\x00\x02\x02\x0a", "the port speaks TLS: write amqps://"),
        (b"", "closed the connection without a reply"),
    ],
)
async def test_the_error_for_a_port_of_another_protocol_comes_at_once_and_names_it(reply: bytes, message: str) -> None:
    async with other_server(reply) as port:
        async with asyncio.timeout(2):
            assert message in await error_of(f"amqp://me:secret@127.0.0.1:{port}/")


@pytest.mark.gen_test
async def test_a_silent_server_is_a_timeout_after_the_time_in_the_url() -> None:
    async with other_server(None) as port:
        async with asyncio.timeout(2):
            message = await error_of(f"amqp://127.0.0.1:{port}/?connection_timeout=200")
        assert "did not answer" in message


@pytest.mark.gen_test
@pytest.mark.parametrize("reply", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_server_without_tls_is_an_error_in_time(reply: bytes | None) -> None:
    async with other_server(reply) as port:
        async with asyncio.timeout(3):
            message = await error_of(f"amqps://127.0.0.1:{port}/?verify=verify_none&connection_timeout=200")
        assert any(part in message for part in ("did not answer", "does not speak TLS", "closed", "reset")), message


@pytest.mark.gen_test
async def test_a_connection_closed_after_the_tls_handshake_suggests_a_client_certificate(tmp_path: Path) -> None:
    """The TLS alert with the reason may be lost: data that crew sent meanwhile resets the connection."""
    certificates = Certificates(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key_of(certificates.server))
    async with other_server(b"", context) as port:
        message = await error_of(f"amqps://localhost:{port}/?cacertfile={certificates.ca}")
        assert "it may require a client certificate" in message

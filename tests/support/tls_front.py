"""A TLS server in front of a broker without TLS, with any certificate that a test needs."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 64 * 1024  # bytes
STOP_WITHIN = 10.0  # seconds


@contextlib.contextmanager
def fronting(url: str, certificate: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[str]:
    """An amqps:// URL for the broker at `url`, until the end of the block. The server runs in its own thread.

    Args:
        certificate: its file; the key file has the same name with the suffix .key.
        newest: newest TLS version that the server accepts.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = newest
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    parts = urlsplit(url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="TLS front", daemon=True)
    thread.start()
    front = _Front(parts.hostname or "", parts.port or 0)
    try:
        port = asyncio.run_coroutine_threadsafe(front.open(context), loop).result(STOP_WITHIN)
        yield parts._replace(scheme="amqps", netloc=f"{parts.username}:{parts.password}@localhost:{port}").geturl()
    finally:
        asyncio.run_coroutine_threadsafe(front.close(), loop).result(STOP_WITHIN)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_WITHIN)
        loop.close()


class _Front:
    def __init__(self, host: str, port: int) -> None:
        self._broker = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def open(self, context: ssl.SSLContext) -> int:
        self._server = await asyncio.start_server(self._on_connection, "localhost", 0, ssl=context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, broker = await asyncio.open_connection(*self._broker)
        try:
            ways = [_pump(reader, broker), _pump(there, writer)]
            await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._tasks.discard(task)
            broker.transport.abort()
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()

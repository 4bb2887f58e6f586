"""Slow clients: timeouts of connections, limits of their number, and which are closed first."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

from crew.gateway.serving import tls
from crew.gateway.serving.connections import OVERFLOW, Intervals
from crew.gateway.serving.server import DrainingServer
from crew.gateway.status_api import HealthHandler
from crew.limits import GatewayLimits
from tests.support.certificates import Certificates
from tests.support.waiting import until

HEAD = b"GET /quick HTTP/1.1\r\nHost: h\r\n"
LARGE = 32 * 1024 * 1024  # bytes: more than the buffers of both sides


class Quick(RequestHandler):
    def get(self) -> None:
        self.write("quick")


class Late(RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(1.0)
        self.write("late")


class Events(RequestHandler):
    async def get(self) -> None:
        for _ in range(10):
            self.write("data: 1\n\n")
            await self.flush()
            await asyncio.sleep(0.1)


class Large(RequestHandler):
    disconnected = False

    async def get(self) -> None:
        self.write(bytes(LARGE))

    def on_connection_close(self) -> None:
        type(self).disconnected = True


@stream_request_body
class Upload(RequestHandler):
    def prepare(self) -> None:
        self.count = 0

    def data_received(self, chunk: bytes) -> Any:
        self.count += len(chunk)

    def post(self) -> None:
        self.write(str(self.count))


@stream_request_body
class SlowHandler(Upload):
    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0.5)
        self.count += len(chunk)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self) -> tuple[int, str]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        return int(head.split()[1]), (await self.reader.readexactly(length)).decode()

    async def status_of(self, path: str) -> int:
        self.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return (await self.response())[0]

    async def is_closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.reader.read() == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


class Clients:
    """The clients of the server; all are disconnected at the end."""

    def __init__(self, server: DrainingServer, port: int) -> None:
        self.server, self.port = server, port
        self._all: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._all.append(client)
        return client

    async def disconnect(self) -> None:
        for client in self._all:
            client.writer.close()


@asynccontextmanager
async def serving(
    *, options: dict[str, Any] | None = None, min_wait: float = 1.0, report: float = 60.0, **limits: Any
) -> AsyncIterator[Clients]:
    """A server with these limits and intervals, which checks its connections ten times a second."""
    paths = {"quick": Quick, "late": Late, "events": Events, "large": Large, "upload": Upload, "slow": SlowHandler}
    routes: list[Any] = [(f"/{name}", handler) for name, handler in paths.items()]
    application = Application([*routes, ("/healthz", HealthHandler)], log_function=lambda _: None)
    server = DrainingServer(application, max_body_size=LARGE, **(options or {}))
    server.limit(GatewayLimits(**limits), Intervals(check=0.1, min_wait=min_wait, report=report))
    (socket, *_) = sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    clients = Clients(server, socket.getsockname()[1])
    try:
        yield clients
    finally:
        server.stop()
        await clients.disconnect()
        await server.close_all_connections()


@pytest.mark.gen_test
@pytest.mark.parametrize("data", [b"", b"GET", HEAD], ids=["nothing", "a method", "half a head"])
async def test_a_connection_without_a_request_is_closed(data: bytes) -> None:
    async with serving(head_timeout=0.3) as clients:
        client = await clients.connect()
        client.send(data)
        assert not await client.is_closed_within(0.1)
        assert await client.is_closed_within(5)


@pytest.mark.gen_test
async def test_a_slowly_arriving_head_does_not_extend_the_timeout() -> None:
    async with serving(head_timeout=0.3, idle_timeout=0.3) as clients:
        first, later = await clients.connect(), await clients.connect()
        assert await later.status_of("/quick") == 200
        for _ in range(60):
            if first.writer.is_closing() or first.reader.at_eof():
                break
            first.send(b"A: b\r\n")
            later.send(b"A: b\r\n")
            await asyncio.sleep(0.05)
        assert await first.is_closed_within(1)
        assert await later.is_closed_within(1)


@pytest.mark.gen_test
async def test_an_idle_connection_is_kept_until_its_timeout() -> None:
    async with serving(head_timeout=0.2, idle_timeout=1.0) as clients:
        client = await clients.connect()
        assert await client.status_of("/quick") == 200
        assert not await client.is_closed_within(0.5)
        assert await client.status_of("/quick") == 200
        assert await client.is_closed_within(5)


@pytest.mark.gen_test
@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
async def test_a_stalled_or_slow_request_body_closes_the_connection(framing: bytes) -> None:
    async with serving(stall_timeout=0.4, min_rate=1000) as clients:
        stalls, trickles = await clients.connect(), await clients.connect()
        for client in (stalls, trickles):
            client.send(b"POST /upload HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n\r\n1\r\na\r\n")
        for _ in range(60):
            if trickles.reader.at_eof():
                break
            trickles.send(b"1\r\na\r\n")
            await asyncio.sleep(0.05)
        assert await trickles.is_closed_within(1)
        assert await stalls.is_closed_within(1)


@pytest.mark.gen_test
async def test_time_that_the_gateway_takes_is_not_counted_against_the_client() -> None:
    terms: dict[str, Any] = {"head_timeout": 0.2, "idle_timeout": 0.2, "stall_timeout": 0.2}
    async with serving(min_rate=10**9, **terms) as clients:
        late, events, slow = [await clients.connect() for _ in range(3)]
        slow.send(b"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
        events.send(b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await late.status_of("/late") == 200
        assert await slow.response() == (200, "4")
        assert (await events.reader.readuntil(b"\r\n0\r\n\r\n")).count(b"data: 1") == 10


@pytest.mark.gen_test
async def test_a_client_that_does_not_read_its_response_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Large, "disconnected", False)
    async with serving(stall_timeout=0.5, report=0.0) as clients:
        client = await clients.connect()
        assert isinstance(client.writer.transport, asyncio.Transport)
        client.writer.transport.pause_reading()
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        with caplog.at_level(logging.WARNING):
            await until(lambda: "the client read nothing of a response within 0.5 s" in caplog.text)
        await until(lambda: len(clients.server._connected) == 0)


@pytest.mark.gen_test
async def test_a_slowly_reading_client_gets_the_whole_response() -> None:
    async with serving(stall_timeout=1.0) as clients:
        client = await clients.connect()
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        began, left = time.monotonic(), LARGE
        while left and (data := await client.reader.read(LARGE)):
            left -= len(data)
            await asyncio.sleep(0.05 if time.monotonic() - began < 2.5 else 0)
        assert left == 0
        assert time.monotonic() - began > 2.0


# --- limits of the number of connections ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_connections_beyond_the_limit_get_503_and_may_request_health_checks() -> None:
    async with serving(max_connections=2) as clients:
        busy = [await clients.connect() for _ in range(2)]
        for one in busy:
            one.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: clients.server.requests == 2)
        third = await clients.connect()
        assert await third.status_of("/healthz") == 200
        third.send(b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n")
        head = (await third.reader.readuntil(b"\r\n\r\n")).decode()
        body = (await third.reader.read()).decode()
        assert "503 Service Unavailable" in head
        assert "Retry-After: 2" in head
        assert "urn:crew:problem:too-many-connections" in body
        assert [(await one.response())[0] for one in busy] == [200, 200]
        busy[0].writer.close()
        await until(lambda: len(clients.server._connected) < 2)
        assert await (await clients.connect()).status_of("/quick") == 200


@pytest.mark.gen_test
async def test_connections_beyond_the_limit_of_one_address_get_429() -> None:
    async with serving(max_connections_per_peer=1) as clients:
        busy = await clients.connect()
        busy.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: clients.server.requests == 1)
        second = await clients.connect()
        assert await second.status_of("/quick") == 429
        assert (await busy.response())[0] == 200


@pytest.mark.gen_test
async def test_at_the_limit_connections_that_send_nothing_are_closed_first() -> None:
    async with serving(max_connections=4, min_wait=0.05) as clients:
        silent = [await clients.connect() for _ in range(3)]
        busy = await clients.connect()
        busy.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: clients.server.requests == 1)
        await asyncio.sleep(0.05)
        assert await (await clients.connect()).status_of("/quick") == 200
        assert [await one.is_closed_within(1) for one in silent] == [True] * 3
        assert (await busy.response())[0] == 200


@pytest.mark.gen_test
async def test_the_number_of_refused_connections_is_limited() -> None:
    async with serving(max_connections=1) as clients:
        busy = await clients.connect()
        busy.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: clients.server.requests == 1)
        for _ in range(OVERFLOW + 20):
            await clients.connect()
        await until(lambda: len(clients.server._connected) == 1 + OVERFLOW)
        assert (await busy.response())[0] == 200


@pytest.mark.gen_test
async def test_a_missing_tls_handshake_closes_the_connection(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    context = tls.context_of(str(certificates.server), str(certificates.key_of(certificates.server)))
    async with serving(options={"ssl_options": context}, head_timeout=0.3) as clients:
        client = await clients.connect()
        assert not await client.is_closed_within(0.1)
        assert await client.is_closed_within(5)

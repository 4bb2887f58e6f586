"""An HTTP server for URL jobs: it records requests, and clients that disconnect before the response."""

import asyncio
import contextlib
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

HANGING = 60.0  # seconds
MOST_POURED = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Seen:
    """A received request."""

    method: str
    path: str
    headers: HTTPHeaders
    body: bytes
    when: float = field(default_factory=time.monotonic)


@dataclass
class Site:
    """The requests of a server on one port of this machine.

    Attributes:
        left: path and time.monotonic() of each request whose connection was closed before its response.
    """

    port: int
    seen: list[Seen] = field(default_factory=list)
    left: list[tuple[str, float]] = field(default_factory=list)
    close: Callable[[], None] = lambda: None  # for new connections

    def url(self, path: str, *, host: str = "127.0.0.1", login: str = "") -> str:
        """The URL of `path`."""
        return f"http://{login}{host}:{self.port}{path}"

    def methods(self) -> list[str]:
        """The methods of all requests, in order."""
        return [one.method for one in self.seen]


class _Handler(RequestHandler):
    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")
    site: Site

    def initialize(self, site: Site) -> None:
        self.site = site

    def compute_etag(self) -> None: ...

    async def _record_and_respond(self, *path: str) -> None:
        self.site.seen.append(
            Seen(self.request.method or "", self.request.path, self.request.headers, self.request.body)
        )
        await self.respond()

    async def respond(self) -> None:
        raise NotImplementedError

    get = head = post = put = patch = delete = options = _record_and_respond

    def on_connection_close(self) -> None:
        self.site.left.append((self.request.path, time.monotonic()))


class _Echo(_Handler):
    async def respond(self) -> None:
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        self.write(
            {
                "method": self.request.method,
                "uri": self.request.uri,
                "headers": headers,
                "body": self.request.body.decode(),
            }
        )


class _Slow(_Handler):
    async def respond(self) -> None:
        """Respond late, but at once to DELETE, which a cancel sends."""
        if self.request.method != "DELETE":
            await asyncio.sleep(float(self.get_argument("for", str(HANGING))))
        self.write("slow")


class _Stubborn(_Handler):
    async def respond(self) -> None:
        """Like /slow, for every method."""
        await asyncio.sleep(float(self.get_argument("for", str(HANGING))))


class _Second(_Handler):
    async def respond(self) -> None:
        """Let the first request hang; respond to the others at once."""
        await asyncio.sleep(HANGING if len(self.site.seen) == 1 else 0)


class _Status(_Handler):
    async def respond(self) -> None:
        self.set_status(int(self.get_argument("code")), self.get_argument("reason", None))
        if location := self.get_argument("to", ""):
            self.set_header("Location", location)
        for header in self.get_arguments("cookie"):
            self.add_header("Set-Cookie", header)


class _Bytes(_Handler):
    async def respond(self) -> None:
        self.set_header("Content-Type", self.get_argument("type", "application/octet-stream"))
        if encoding := self.get_argument("encoding", ""):
            self.set_header("Content-Encoding", encoding)
        self.write(bytes.fromhex(self.get_argument("hex")))


class _Endless(_Handler):
    async def respond(self) -> None:
        """Send bytes until the client disconnects."""
        piece = bytes(64 * 1024)
        try:
            while True:
                self.write(piece)
                await self.flush()
        except StreamClosedError:  # record it here: after the end of this handler Tornado does not report it
            self.on_connection_close()


class _Bomb(_Handler):
    async def respond(self) -> None:
        self.set_header("Content-Encoding", "gzip")
        self.write(bomb())


def bomb(size: int = 64 * 1024 * 1024) -> bytes:
    """Zeros, compressed to a thousandth of `size`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    piece = bytes(1024 * 1024)
    return b"".join(packer.compress(piece) for _ in range(size // len(piece))) + packer.flush()


@contextlib.asynccontextmanager
async def http_site() -> AsyncIterator[Site]:
    """A running server, stopped at the end of the block."""
    (socket,) = bind_sockets(0, "127.0.0.1", backlog=1024)
    site = Site(socket.getsockname()[1])
    given: dict[str, Any] = {"site": site}
    paths = {
        "echo": _Echo,
        "slow": _Slow,
        "stubborn": _Stubborn,
        "second": _Second,
        "status": _Status,
        "bytes": _Bytes,
        "endless": _Endless,
        "bomb": _Bomb,
    }
    application = Application(
        [(f"/{path}.*", kind, given) for path, kind in paths.items()], log_function=lambda _: None
    )
    server = HTTPServer(application, no_keep_alive=True, max_buffer_size=64 * 1024 * 1024)
    server.add_sockets([socket])
    site.close = server.stop
    try:
        yield site
    finally:
        server.stop()
        await server.close_all_connections()


@contextlib.asynccontextmanager
async def saying(*pieces: bytes, ends: bool = True, host: str = "127.0.0.1") -> AsyncIterator[Site]:
    """A server that sends these bytes in response to any request; without `ends` it then keeps the connection open."""
    site, has_ended, serving = Site(0), asyncio.Event(), set[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        head = await reader.read(65536)
        method, path, *_ = head.decode(errors="replace").split(" ")
        site.seen.append(Seen(method, path, HTTPHeaders(), head))
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not ends:
                await has_ended.wait()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        has_ended.set()
        server.close()
        await asyncio.gather(*serving)


@contextlib.asynccontextmanager
async def pouring(head: bytes, piece: bytes, *, every: float = 0.0) -> AsyncIterator[Site]:
    """A server that sends `head` and then `piece` repeatedly, until its client disconnects or has received 64 MiB.

    `site.left` has the number of sent bytes instead of a path.
    """
    site, serving = Site(0), set[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        sent = 0
        with contextlib.suppress(ConnectionError):
            await reader.read(65536)
            writer.write(head)
            while sent < MOST_POURED and not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                await asyncio.sleep(every)
        site.left.append((str(sent), time.monotonic()))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        await asyncio.gather(*serving)


def gzipped(data: bytes) -> str:
    """Compressed `data` for the parameter `hex` of /bytes."""
    return gzip.compress(data).hex()

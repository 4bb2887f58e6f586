"""Serving an application until it is told to stop, and then to the end of what it has begun.

The first signal: readiness off -> linger -> refuse what is new -> finish what is not -> close. The second one: close,
unless it is SIGHUP, which a terminal that is closed may send twice.
"""

import asyncio
import contextlib
import inspect
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerConnectionDelegate, RequestStartLine
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.web import Application

from crew.client import Client
from crew.errors import SettingsError
from crew.gateway.serving import open_files, open_streams, peer_log
from crew.gateway.serving.connections import IN_ALL, PER_PEER, Connection, Connections, Phase
from crew.gateway.serving.listener import Listener
from crew.gateway.status_api import CrowdedHandler, RefusalHandler
from crew.limits import GatewayLimits
from crew.limits import load as load_limits
from crew.protocol.arguments import check_names

logger = logging.getLogger(__name__)

_OURS: Final = ("application", "client", "port", "address", "drain", "linger", "on_listening", "limits")
_OF_TORNADO: Final = tuple(inspect.signature(HTTPServer.initialize).parameters)[2:]  # without self and the application
SERVE_ARGUMENTS: Final = (*_OURS, *_OF_TORNADO)
HEALTH: Final = ("/healthz", "/readyz")  # ends of paths that are served whatever the limits are
POLL: Final = 0.01  # seconds
BACKLOG: Final = 4096  # connections that wait to be accepted: one more is made after a second, or reset after twenty
LAST_WORDS: Final = 0.5  # seconds to answer requests whose calls were given up, before their connections are closed


async def serve(
    application: HTTPServerConnectionDelegate,
    client: Client,
    *,
    port: int = 8888,
    address: str = "127.0.0.1",
    drain: float = 30.0,
    linger: float = 0.0,
    on_listening: Callable[[str], object] = lambda url: None,
    limits: GatewayLimits | None = None,
    **options: Any,
) -> None:
    """Serve `application` until SIGTERM, SIGINT or SIGHUP, finish what has begun, and return. Main thread only.

    The client connects meanwhile: a broker that is away keeps nobody from listening, and `/readyz` tells. Told to stop,
    the gateway says on `/readyz` that it is not ready, waits for `linger` seconds, refuses new requests with 503, and
    finishes the others: those that wait for calls, and long polls, whose end nobody knows, until `drain` is over. It
    does not wait for streams of events, which end with it, and who waits for a job is answered at once: the job goes
    on, and another gateway can be asked for it. What has not ended by the end of `drain` gets ConnectionError from its
    calls, and its connection is closed. A second SIGTERM or SIGINT: now. SIGHUP is ignored under `nohup`.

    The process may open as many files as the system lets it (`ulimit -Hn`), which bounds how many requests can wait
    here at a time. Connections beyond that take the places of those that wait for their clients, or are accepted when
    others are closed.

    A client has `limits.head_timeout` for its first request, `idle_timeout` for the next, and has to go on sending and
    reading. How long its request may take is its own affair: long polls, streams of events and WebSockets have no
    limit.

    Args:
        application: of Tornado; `routes` mounts `/healthz` and `/readyz` in it.
        client: makes the calls; it is drained and closed.
        port: to listen on; 0 takes a free one.
        address: to listen on; default: this machine only. "0.0.0.0" lets everybody in who reaches it.
        drain: seconds for requests and calls to finish.
        linger: seconds before new requests are refused, for a load balancer to notice that this one is not ready.
        on_listening: told the address, like "http://127.0.0.1:8888".
        limits: of connections and their times; default: those of the environment, see `crew.limits`.
        options: of `tornado.httpserver.HTTPServer`: `xheaders=True` behind a proxy, `ssl_options` for TLS.

    Raises:
        SettingsError: the port cannot be used.
        TypeError: an option is not one of `HTTPServer`.
    """
    check_names("serve", options, SERVE_ARGUMENTS)
    open_files.allow_most()
    server = DrainingServer(application, **options)
    server.limit(_limits_of(limits, options))
    with peer_log.bounded(), _signals() as told:
        on_listening(_listen(server, port, address))
        client.open()
        try:
            await told.stop.wait()
            await _drain(server, client, told.hurry, drain=drain, linger=linger)
        finally:
            server.stop()
            await client.close()
            await server.is_silent_within(LAST_WORDS)
            await server.close_all_connections()


def _limits_of(limits: GatewayLimits | None, options: Mapping[str, Any]) -> GatewayLimits:
    """The limits that were given, or those of the environment; an option of Tornado's says more of the idle."""
    found = load_limits() if limits is None else limits
    idle = options.get("idle_connection_timeout")
    return found if idle is None else msgspec.structs.replace(found, idle_timeout=float(idle))


async def _drain(
    server: "DrainingServer", client: Client, hurry: asyncio.Event, *, drain: float, linger: float
) -> None:
    logger.info("draining: %d requests have %g s to finish", server.requests, linger + drain)
    server.leave()
    await _wait(hurry, linger)
    server.refuse()
    if client.has_jobs:
        client.jobs.leave()
    until = time.monotonic() + drain
    await server.is_idle_within(drain, hurry)
    left = until - time.monotonic()
    if left > 0 and not hurry.is_set():
        draining = asyncio.ensure_future(client.drain(left))
        hurrying = asyncio.ensure_future(hurry.wait())
        await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        await client.close()
        await draining


class DrainingServer(HTTPServer):
    """An HTTP server that knows which requests it has not answered, and can refuse more of them."""

    def initialize(self, *args: Any, **options: Any) -> None:
        """As HTTPServer."""
        super().initialize(*args, **options)
        self._busy: dict[object, object] = {}  # connections whose request, here, is not answered to its last byte
        self._refusal = Application([(".*", RefusalHandler)])
        self._crowded = {
            beyond: Application([(".*", CrowdedHandler, {"beyond": beyond})]) for beyond in (IN_ALL, PER_PEER)
        }
        self._is_leaving = False
        self._refuses = False
        self._connected = Connections(GatewayLimits())

    def limit(self, limits: GatewayLimits) -> None:
        """Have these limits of connections; before it listens."""
        self._connected = Connections(limits)

    def make_room(self) -> bool:
        """Close connections that wait for their clients; whether there were any."""
        return self._connected.make_room()

    @property
    def requests(self) -> int:
        """How many are not answered, and will be: streams that end with the gateway are none of them."""
        return sum(not open_streams.has(request) for request in self._busy.values())

    def leave(self) -> None:
        """Say on every `/readyz` that it is not ready."""
        self._is_leaving = True

    def refuse(self) -> None:
        """Refuse what is new, but for `/healthz`."""
        self._refuses = True

    async def is_idle_within(self, seconds: float, hurry: asyncio.Event | None = None) -> bool:
        """Wait for `seconds`, or until `hurry`, for every request to be answered; whether they are."""
        until = time.monotonic() + seconds
        while self.requests and time.monotonic() < until and not (hurry and hurry.is_set()):
            await asyncio.sleep(POLL)
        return not self.requests

    async def is_silent_within(self, seconds: float) -> bool:
        """As `is_idle_within`, for streams as well."""
        until = time.monotonic() + seconds
        while self._busy and time.monotonic() < until:
            await asyncio.sleep(POLL)
        return not self._busy

    # --- what Tornado asks ------------------------------------------------------------------------------------------

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A client has connected."""
        self._connected.open(stream, address)
        if not stream.closed():
            super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """A connection is there for its next request: the last one is answered."""
        self._busy.pop(server_conn, None)
        connection = self._connected.of(request_conn.stream)
        if connection is not None and connection.phase is not Phase.HEAD:
            connection.enter(Phase.IDLE)

        def begin(path: str) -> HTTPMessageDelegate:
            self._busy[server_conn] = request_conn
            if connection is not None and not connection.is_admitted and not path.endswith(HEALTH):
                beyond = self._connected.admit(connection)
                if beyond is not None:
                    return self._crowded[beyond].start_request(server_conn, request_conn)
            if self._takes(path):
                return super(DrainingServer, self).start_request(server_conn, request_conn)
            return self._refusal.start_request(server_conn, request_conn)

        return _Request(begin, connection)

    def on_close(self, server_conn: object) -> None:
        """A connection has ended, or belongs to a WebSocket from now on."""
        self._busy.pop(server_conn, None)
        self._connected.forget(getattr(server_conn, "stream"))  # noqa: B009 # the interface has none, all that come do
        super().on_close(server_conn)

    def _takes(self, path: str) -> bool:
        if self._is_leaving and path.endswith("/readyz"):
            return False
        return not self._refuses or path.endswith("/healthz")


class _Request(HTTPMessageDelegate):
    """A request: its first line says which application it is for."""

    def __init__(self, begin: Callable[[str], HTTPMessageDelegate], connection: Connection | None) -> None:
        self._begin = begin
        self._connection = connection
        self._inner: HTTPMessageDelegate | None = None

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        if self._connection is not None:
            self._connection.enter(Phase.BODY)
        self._inner = self._begin(start_line.path.partition("?")[0])
        return self._paused(self._inner.headers_received(start_line, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert self._inner is not None
        if self._connection is not None:
            self._connection.add(len(chunk))
        return self._paused(self._inner.data_received(chunk))

    def finish(self) -> None:
        assert self._inner is not None
        if self._connection is not None:
            self._connection.enter(Phase.SERVED)
        self._inner.finish()

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()

    def _paused(self, step: Awaitable[None] | None) -> Awaitable[None] | None:
        """`step`, while which nothing more is read: the client is not to be blamed for it."""
        return step if step is None or self._connection is None else self._waited(step, self._connection)

    async def _waited(self, step: Awaitable[None], connection: Connection) -> None:
        received = connection.received
        connection.phase = Phase.SERVED
        try:
            await step
        finally:
            if connection.phase is Phase.SERVED:
                connection.enter(Phase.BODY)
                connection.received = received


class _Told:
    """What signals have said: to stop, and to do that at once."""

    def __init__(self) -> None:
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()

    def on_signal(self, number: signal.Signals) -> None:
        """Stop; if that was said before, and by a signal other than SIGHUP, hurry."""
        if not self.stop.is_set():
            logger.info("%s received", number.name)
            self.stop.set()
        elif number is not signal.SIGHUP:
            self.hurry.set()


@contextlib.contextmanager
def _signals() -> Iterator[_Told]:
    loop, told = asyncio.get_running_loop(), _Told()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told.on_signal, number)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _listen(server: DrainingServer, port: int, address: str) -> str:
    if isinstance(port, int) and not 0 <= port < 65536:  # the system would take what is left of it modulo that
        raise SettingsError(f"port {port} is not between 0 and 65535")
    try:
        bound = bind_sockets(port, address, backlog=BACKLOG)
        sockets = [Listener(one, make_room=server.make_room) for one in bound]
    except OSError as error:
        raise SettingsError(f"port {port} of {address} cannot be used: {error.strerror}") from None
    server.add_sockets(sockets)
    host = f"[{address}]" if ":" in address else address
    scheme = "http" if server.ssl_options is None else "https"
    url = f"{scheme}://{host}:{sockets[0].getsockname()[1]}"
    logger.info("listening on %s", url)
    return url


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

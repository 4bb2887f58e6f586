"""The HTTP server: serves an application until a signal, then drains and stops.

First signal: not ready -> linger -> refuse new requests -> finish the others -> close. Second signal: close at once,
unless it is SIGHUP, which a closing terminal may send twice.
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
from crew.duration import Duration, parse_duration
from crew.errors import SettingsError
from crew.gateway.serving import peer_log
from crew.gateway.serving.connections import (
    DEFAULT,
    PER_PEER,
    TOTAL,
    Connection,
    Connections,
    Intervals,
    Phase,
    is_open_stream,
)
from crew.gateway.serving.listener import Listener, raise_open_files_limit
from crew.gateway.serving.refusals import ConnectionLimitHandler, DrainingHandler
from crew.limits import GatewayLimits
from crew.limits import load as load_limits
from crew.protocol.arguments import check_names

logger = logging.getLogger(__name__)

_OWN_ARGUMENTS: Final = ("application", "client", "port", "address", "drain", "linger", "on_listening", "limits")
_TORNADO_ARGUMENTS: Final = tuple(inspect.signature(HTTPServer.initialize).parameters)[
    2:
]  # without self and the application
SERVE_ARGUMENTS: Final = (*_OWN_ARGUMENTS, *_TORNADO_ARGUMENTS)
HEALTH: Final = ("/healthz", "/readyz")  # ends of paths that are served regardless of the limits
POLL: Final = 0.01  # seconds
BACKLOG: Final = 4096  # connections waiting to be accepted: the next one is retried after 1 s, or reset after 20 s
ERROR_RESPONSE_TIME: Final = 0.5  # seconds to send errors for abandoned calls before the connections are closed


async def serve(
    application: HTTPServerConnectionDelegate,
    client: Client,
    *,
    port: int = 8888,
    address: str = "127.0.0.1",
    drain: Duration = 30.0,
    linger: Duration = 0.0,
    on_listening: Callable[[str], object] = lambda url: None,
    limits: GatewayLimits | None = None,
    **options: Any,
) -> None:
    """Serve `application` until SIGTERM, SIGINT or SIGHUP, drain, and return. Call it in the main thread.

    The client connects in the background: the gateway listens also while the broker is unavailable, and `/readyz`
    reports that. On a signal the gateway does this:

    1. `/readyz` responds with 503.
    2. After `linger` seconds it refuses new requests with 503.
    3. It finishes the other requests, for at most `drain` seconds: those that wait for calls, and long polls. A request
       that waits for a job is answered at once: the job goes on, and the client can ask another gateway for it. Streams
       of events stay open to the end, and draining does not wait for them.
    4. Calls that are still pending then end with ConnectionError, and all connections are closed.

    A second SIGTERM or SIGINT skips to step 4. Under `nohup` SIGHUP is ignored.

    The process raises its limit of open files to the maximum (`ulimit -Hn`). It limits how many requests can wait here
    at a time. Further connections replace those that wait for their clients, or are accepted when others are closed.

    A client has `limits.head_timeout` seconds for the head of its first request and `idle_timeout` for the next one,
    and must keep sending and reading. The duration of a request has no limit, so long polls, streams of events and
    WebSockets work.

    Args:
        application: a Tornado application; `routes` mounts `/healthz` and `/readyz` in it.
        client: makes the calls; it is drained and closed at the end.
        port: to listen on; 0: any free port.
        address: to listen on. Default: loopback only. "0.0.0.0": every machine that can reach this one.
        drain: for requests and calls to finish: seconds, or text like "2m".
        linger: before new requests are refused, so that load balancers notice that this gateway is not ready.
        on_listening: called with the URL, like "http://127.0.0.1:8888".
        limits: numbers and timeouts of connections; default: from the environment, see `crew.limits`.
        options: arguments of `tornado.httpserver.HTTPServer`: `xheaders=True` behind a proxy, `ssl_options` for TLS.

    Raises:
        SettingsError: the port cannot be used.
        TypeError: an option is not an argument of `HTTPServer`.
    """
    check_names("serve", options, SERVE_ARGUMENTS)
    drain = parse_duration("drain", drain, may_be_zero=True)
    linger = parse_duration("linger", linger, may_be_zero=True)
    raise_open_files_limit()
    server = DrainingServer(application, **options)
    server.limit(_limits_of(limits, options))
    with peer_log.bounded(), _signals() as signals:
        on_listening(_listen(server, port, address))
        client.open()
        try:
            await signals.stop.wait()
            await _drain(server, client, signals.stop_now, drain=drain, linger=linger)
        finally:
            server.stop()
            await client.close()
            await server.is_silent_within(ERROR_RESPONSE_TIME)
            await server.close_all_connections()


def _limits_of(limits: GatewayLimits | None, options: Mapping[str, Any]) -> GatewayLimits:
    """The given limits, or those of the environment; Tornado's own option for idle connections takes precedence."""
    found = load_limits() if limits is None else limits
    idle = options.get("idle_connection_timeout")
    return found if idle is None else msgspec.structs.replace(found, idle_timeout=float(idle))


async def _drain(
    server: "DrainingServer", client: Client, stop_now: asyncio.Event, *, drain: float, linger: float
) -> None:
    logger.info("draining: requests=%d timeout=%gs", server.requests, linger + drain)
    server.report_not_ready()
    await _wait(stop_now, linger)
    server.refuse_requests()
    if client.has_jobs:
        client.jobs.leave()
    until = time.monotonic() + drain
    await server.is_idle_within(drain, stop_now)
    left = until - time.monotonic()
    if left > 0 and not stop_now.is_set():
        draining = asyncio.ensure_future(client.drain(left))
        stopping_now = asyncio.ensure_future(stop_now.wait())
        await asyncio.wait([draining, stopping_now], return_when=asyncio.FIRST_COMPLETED)
        stopping_now.cancel()
        await client.close()
        await draining


class DrainingServer(HTTPServer):
    """An HTTP server that tracks its pending requests, can refuse new ones, and limits its connections."""

    def initialize(self, *args: Any, **options: Any) -> None:
        """Set up as HTTPServer does; the arguments are the same."""
        super().initialize(*args, **options)
        self._busy: dict[object, object] = {}  # connections with the request whose response is not complete
        self._refusal = Application([(".*", DrainingHandler)])
        self._over_limit = {
            exceeded: Application([(".*", ConnectionLimitHandler, {"exceeded": exceeded})])
            for exceeded in (TOTAL, PER_PEER)
        }
        self._is_not_ready = False
        self._refuses = False
        self._connected = Connections(GatewayLimits())

    def limit(self, limits: GatewayLimits, intervals: Intervals = DEFAULT) -> None:
        """Set the limits of connections, and how often they are checked. Call it before the server listens."""
        self._connected = Connections(limits, intervals)

    def make_room(self) -> bool:
        """Close connections that wait for their clients; return whether any was closed."""
        return self._connected.make_room()

    @property
    def requests(self) -> int:
        """The number of pending requests, without streams that stay open until the gateway stops."""
        return sum(not is_open_stream(request) for request in self._busy.values())

    def report_not_ready(self) -> None:
        """Respond to `/readyz` with 503 from now on."""
        self._is_not_ready = True

    def refuse_requests(self) -> None:
        """Refuse new requests from now on, except `/healthz`."""
        self._refuses = True

    async def is_idle_within(self, seconds: float, stop_now: asyncio.Event | None = None) -> bool:
        """Wait until no request is pending, for at most `seconds`, or until `stop_now`; return whether none is."""
        until = time.monotonic() + seconds
        while self.requests and time.monotonic() < until and not (stop_now and stop_now.is_set()):
            await asyncio.sleep(POLL)
        return not self.requests

    async def is_silent_within(self, seconds: float) -> bool:
        """Wait until no request is pending and no stream open, for at most `seconds`; return whether that is so."""
        until = time.monotonic() + seconds
        while self._busy and time.monotonic() < until:
            await asyncio.sleep(POLL)
        return not self._busy

    # --- called by Tornado ------------------------------------------------------------------------------------------

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a new connection."""
        self._connected.open(stream, address)
        if not stream.closed():
            super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Expect the next request on a connection: the response to the last one is complete."""
        self._busy.pop(server_conn, None)
        connection = self._connected.get(request_conn.stream)
        if connection is not None and connection.phase is not Phase.HEAD:
            connection.enter(Phase.IDLE)

        def begin(path: str) -> HTTPMessageDelegate:
            self._busy[server_conn] = request_conn
            if connection is not None and not connection.is_admitted and not path.endswith(HEALTH):
                exceeded = self._connected.admit(connection)
                if exceeded is not None:
                    return self._over_limit[exceeded].start_request(server_conn, request_conn)
            if self._accepts(path):
                return super(DrainingServer, self).start_request(server_conn, request_conn)
            return self._refusal.start_request(server_conn, request_conn)

        return _Request(begin, connection)

    def on_close(self, server_conn: object) -> None:
        """Note that a connection was closed, or has become a WebSocket."""
        self._busy.pop(server_conn, None)
        self._connected.on_http_end(getattr(server_conn, "stream"))  # noqa: B009 # not in the interface, but always there
        super().on_close(server_conn)

    def _accepts(self, path: str) -> bool:
        if self._is_not_ready and path.endswith("/readyz"):
            return False
        return not self._refuses or path.endswith("/healthz")


class _Request(HTTPMessageDelegate):
    """Receives one request, chooses the application by its path, and records what the client has sent."""

    def __init__(self, begin: Callable[[str], HTTPMessageDelegate], connection: Connection | None) -> None:
        self._begin = begin
        self._connection = connection
        self._inner: HTTPMessageDelegate | None = None

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        if self._connection is not None:
            self._connection.enter(Phase.BODY)
        self._inner = self._begin(start_line.path.partition("?")[0])
        return self._uncounted(self._inner.headers_received(start_line, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        assert self._inner is not None
        if self._connection is not None:
            self._connection.add(len(chunk))
        return self._uncounted(self._inner.data_received(chunk))

    def finish(self) -> None:
        assert self._inner is not None
        if self._connection is not None:
            self._connection.enter(Phase.SERVED)
        self._inner.finish()

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()

    def _uncounted(self, step: Awaitable[None] | None) -> Awaitable[None] | None:
        """`step`, without counting its time against the client: nothing is read from the connection meanwhile."""
        return step if step is None or self._connection is None else self._wait_uncounted(step, self._connection)

    async def _wait_uncounted(self, step: Awaitable[None], connection: Connection) -> None:
        received = connection.received
        connection.phase = Phase.SERVED
        try:
            await step
        finally:
            if connection.phase is Phase.SERVED:
                connection.enter(Phase.BODY)
                connection.received = received


class _StopSignals:
    """The events that signals set: `stop`, and `stop_now`."""

    def __init__(self) -> None:
        self.stop, self.stop_now = asyncio.Event(), asyncio.Event()

    def on_signal(self, number: signal.Signals) -> None:
        """Set `stop`; at a later signal other than SIGHUP, set `stop_now`."""
        if not self.stop.is_set():
            logger.info("signal received: %s", number.name)
            self.stop.set()
        elif number is not signal.SIGHUP:
            self.stop_now.set()


@contextlib.contextmanager
def _signals() -> Iterator[_StopSignals]:
    loop, signals = asyncio.get_running_loop(), _StopSignals()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, signals.on_signal, number)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _listen(server: DrainingServer, port: int, address: str) -> str:
    if isinstance(port, int) and not 0 <= port < 65536:  # the system would use the port modulo 65536
        raise SettingsError(f"port {port} is out of range: it must be between 0 and 65535")
    try:
        bound = bind_sockets(port, address, backlog=BACKLOG)
        sockets = [Listener(one, make_room=server.make_room) for one in bound]
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {address} port {port}: {error.strerror}; choose another port or address"
        ) from None
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

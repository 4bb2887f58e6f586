"""Sends the request of a URL job, follows redirects, reads the response; checks each address before it connects."""

import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import aiohttp
import msgspec
import yarl
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from crew import __version__, own_address
from crew.protocol.http_job.allowed_hosts import AllowedHosts
from crew.protocol.http_job.request import HttpRequest
from crew.protocol.http_job.url import HttpUrl
from crew.worker.url_jobs import resolver
from crew.worker.url_jobs.body import ENCODINGS, BodyError, as_json, charset_of, read_body
from crew.worker.url_jobs.connector import Connector, Resolve
from crew.worker.url_jobs.errors import request_failed, translated
from crew.worker.url_jobs.interim_responses import BoundedResponse
from crew.worker.url_jobs.wire_limits import WireCounter, WireLimits

MAX_REDIRECTS: Final = 5
MAX_HEADER: Final = 32 * 1024  # bytes of one header of a response; aiohttp's 8 KiB are too few for some pages
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# Headers that are sent to another origin after a redirect. Any other may be a secret: X-Api-Key, X-Auth-Token.
_FOR_ANY_ORIGIN: Final = (
    *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "pragma", "range"),
    *("content-encoding", "content-language", "content-type", "user-agent"),
)
_OF_BODY: Final = "content-"  # prefix of the headers that describe a body
_DEFAULTS: Final = {"accept": "*/*", "accept-encoding": ENCODINGS, "user-agent": f"crew/{__version__}"}


class BodyToOtherOrigin(Exception):
    """A redirect would send the body of a request to another origin; holds that origin."""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the chain of redirects.

    Attributes:
        headers: with names in lower case.
    """

    method: str
    url: HttpUrl
    headers: dict[str, str]
    body: bytes | None

    @classmethod
    def first(cls, request: HttpRequest) -> "Hop":
        """The first request of the chain."""
        url, headers = request.target, {name.lower(): value for name, value in request.headers.items()}
        if request.content_type is not None:
            headers["content-type"] = request.content_type
        if url.login:
            headers["authorization"] = url.login
        return cls(method=request.method, url=url, headers=headers, body=request.body)

    def redirected(self, status: int, location: str) -> "Hop":
        """The next request, see https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.

        Another origin gets only the headers of a safe list, and never the body. The same host with https instead of
        http, at the default ports, counts as the same origin.

        Raises:
            BodyToOtherOrigin: the body would be sent to another origin.
            ValueError: the location is no valid URL of a job.
        """
        url, method, body, headers = self.url.joined(location), self.method, self.body, self.headers
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = {name: value for name, value in headers.items() if not name.startswith(_OF_BODY)}
        if not _is_trusted(url, self.url):
            if body is not None:
                raise BodyToOtherOrigin(url.origin)
            headers = {name: value for name, value in headers.items() if name in _FOR_ANY_ORIGIN}
        return Hop(method=method, url=url, headers=headers, body=body)


class Exchange:
    """Sends requests, each over its own connection.

    Args:
        allowed: hosts that may be reached although they have no public address.
        resolve: returns the addresses of a host.
        limits: what each request may receive.
    """

    def __init__(
        self, allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, limits: WireLimits | None = None
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._limits = WireLimits() if limits is None else limits

    async def perform(self, request: HttpRequest) -> dict[str, Any]:
        """Send `request`, and return its response as `crew.worker.url_jobs.task` documents it.

        Raises:
            RequestFailed: there is no response, or crew does not accept it.
            ForbiddenAddress: the request or a redirect leads to an address that URL jobs must not reach.
        """
        began = time.monotonic()
        hop = Hop.first(request)
        for redirects in range(MAX_REDIRECTS + 1):
            async with self.send(hop) as response:
                following = _next(hop, response)
                if following is None:  # no redirect: the final response
                    return {**await _read(hop, response), "redirects": redirects, "elapsed_ms": elapsed_ms(began)}
            hop = following
        raise request_failed(request.method, request.target, f"it was redirected more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def send(self, hop: Hop) -> AsyncIterator[ClientResponse]:
        """Send one request and yield its response; the connection is closed at the end of the block."""
        counter = WireCounter(self._limits)
        with translated(hop.method, hop.url, counter):
            addresses = await self._resolve(hop.url.host, hop.url.port)
            own = own_address.own(addresses)
            connector = Connector(self._allowed.choose(hop.url.host, hop.url.port, addresses, own=own), counter)
            async with _session(connector) as session:
                try:
                    with closing(await _response(session, hop)) as response, counter.reading_body(connector.disconnect):
                        yield response
                finally:
                    connector.disconnect()  # first: closing the session would wait until all data is sent


def elapsed_ms(began: float) -> int:
    """Milliseconds since `began` (time.monotonic())."""
    return round((time.monotonic() - began) * 1000)


def _session(connector: Connector) -> ClientSession:
    """A session for one request, so that requests share no connection, cookie or address. It costs 0.1 ms."""
    return ClientSession(
        connector=TCPConnector(
            resolver=connector, socket_factory=connector.open_socket, use_dns_cache=False, force_close=True
        ),
        timeout=ClientTimeout(total=None, sock_connect=None),  # the task has the timeout
        auto_decompress=False,  # aiohttp would decompress without a limit
        max_field_size=MAX_HEADER,
        trust_env=False,  # a proxy of the environment would connect to unchecked addresses
        middlewares=(_once,),
        response_class=BoundedResponse,
    )


async def _response(session: ClientSession, hop: Hop) -> ClientResponse:
    """Send the request; return the response, without its body."""
    return await session.request(
        hop.method,
        _as_sent(hop.url),
        headers={**_DEFAULTS, **hop.headers},
        data=None
        if hop.body is None
        else io.BytesIO(hop.body),  # read in pieces, so that other tasks of the loop run between them
        allow_redirects=False,
    )


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Prevent aiohttp's own retry after a server closed the connection: the server may have processed the request."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise aiohttp.ClientConnectionError from None


def _as_sent(url: HttpUrl) -> yarl.URL:
    """The URL unchanged: quoting it again would break a signed URL."""
    return yarl.URL(str(url), encoded=True)


def _next(hop: Hop, response: ClientResponse) -> Hop | None:
    """The request that `response` redirects to; None if it is the final response."""
    status, location = response.status, response.headers.get("Location")
    if status not in _REDIRECTS or location is None:
        return None
    try:
        return hop.redirected(status, location)
    except BodyToOtherOrigin as origin:
        reason = (
            f"its response ({status}) redirects the body of the request to another origin, {origin}, and crew sends "
            "bodies to no other origin: submit the job with that URL"
        )
        raise request_failed(hop.method, hop.url, reason) from None
    except ValueError:
        raise request_failed(hop.method, hop.url, f"its response ({status}) redirects to an invalid URL") from None


def _is_trusted(url: HttpUrl, before: HttpUrl) -> bool:
    """Whether `url` may get headers and body for `before`: same origin, or an upgrade from http to https."""
    upgrades = (before.scheme, before.port, url.scheme, url.port) == ("http", 80, "https", 443)
    return url.origin == before.origin or (upgrades and url.host == before.host)


async def _read(hop: Hop, response: ClientResponse) -> dict[str, Any]:
    try:
        data = await read_body(response)
    except BodyError as error:
        raise request_failed(hop.method, hop.url, f"the body of the response {error}") from None
    return {
        "code": response.status,
        "reason": reason_of(response),
        "url": str(hop.url),
        "headers": [[_text(name), _text(value)] for name, value in response.raw_headers],
        **as_json(data, charset_of(response.headers.get("Content-Type", ""))),
    }


def reason_of(response: ClientResponse) -> str:
    """Its reason phrase, as text for JSON."""
    return _text((response.reason or "").encode(errors="surrogateescape"))


def _text(data: bytes) -> str:
    """`data` as UTF-8, or else as Latin-1, which older servers send (RFC 9110, section 5.5)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")

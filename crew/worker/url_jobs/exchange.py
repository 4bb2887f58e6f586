"""One request of a URL job and its response, redirects followed. Each address that it leads to is checked first."""

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
from crew.worker.url_jobs.body import ENCODINGS, BadBody, as_json, charset_of, read_body
from crew.worker.url_jobs.connector import Door, Resolve
from crew.worker.url_jobs.errors import failed, told
from crew.worker.url_jobs.interim_responses import BoundedResponse
from crew.worker.url_jobs.wire_limits import Bounds, Wire

MAX_REDIRECTS: Final = 5
MAX_HEADER: Final = 32 * 1024  # bytes of one of a response; 8 KiB, as aiohttp has it, are too few for some pages
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# Headers that a redirect may carry to another origin. Any other may be a secret: X-Api-Key, X-Auth-Token, Signature.
_FOR_ANY_ORIGIN: Final = (
    *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "pragma", "range"),
    *("content-encoding", "content-language", "content-type", "user-agent"),
)
_OF_BODY: Final = "content-"  # how headers begin that are about a body
_DEFAULTS: Final = {"accept": "*/*", "accept-encoding": ENCODINGS, "user-agent": f"crew/{__version__}"}


class BodyToOtherOrigin(Exception):
    """A redirect would carry the body of a request to an origin that it was not meant for; holds that origin."""


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One request on the way to a response.

    Attributes:
        headers: with names in lower case.
    """

    method: str
    url: HttpUrl
    headers: dict[str, str]
    body: bytes | None

    @classmethod
    def first(cls, request: HttpRequest) -> "Hop":
        """What `request` asks for."""
        url, headers = request.target, {name.lower(): value for name, value in request.headers.items()}
        if request.content_type is not None:
            headers["content-type"] = request.content_type
        if url.login:
            headers["authorization"] = url.login
        return cls(method=request.method, url=url, headers=headers, body=request.body)

    def redirected(self, status: int, location: str) -> "Hop":
        """The next request, see https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.

        Another origin gets the headers of a safe list and no others, and never the body. The same host under https, at
        the default ports, counts as the same origin.

        Raises:
            BodyToOtherOrigin: the body would go to another origin.
            ValueError: the location is no URL that a job may have.
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
    """Sends requests, each over a connection of its own.

    Args:
        allowed: what may be reached though it is no public address.
        resolve: finds the addresses of a host.
        bounds: of what each request may receive.
    """

    def __init__(
        self, allowed: AllowedHosts, *, resolve: Resolve = resolver.resolve, bounds: Bounds | None = None
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._bounds = Bounds() if bounds is None else bounds

    async def perform(self, request: HttpRequest) -> dict[str, Any]:
        """Send `request`, and read its response: see `crew.worker.url_jobs.task`.

        Raises:
            RequestFailed: there is no response, or it cannot be kept.
            ForbiddenAddress: it leads to where URL jobs may not go.
        """
        began = time.monotonic()
        hop = Hop.first(request)
        for redirects in range(MAX_REDIRECTS + 1):
            async with self.send(hop) as response:
                following = _next(hop, response)
                if following is None:  # it is the response that is wanted
                    return {**await _read(hop, response), "redirects": redirects, "elapsed_ms": elapsed_ms(began)}
            hop = following
        raise failed(request.method, request.target, f"it was redirected more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def send(self, hop: Hop) -> AsyncIterator[ClientResponse]:
        """The response to one request; its connection is closed at the end of the block, whatever it still holds."""
        wire = Wire(self._bounds)
        with told(hop.method, hop.url, wire):
            addresses = await self._resolve(hop.url.host, hop.url.port)
            own = own_address.own(addresses)
            door = Door(self._allowed.choose(hop.url.host, hop.url.port, addresses, own=own), wire)
            async with _session(door) as session:
                try:
                    with closing(await _answer(session, hop)) as response, wire.reading_body(door.shut):
                        yield response
                finally:
                    door.shut()  # first: the session waits until what it has to send is out, or cannot be sent


def elapsed_ms(began: float) -> int:
    """Milliseconds since `began` (time.monotonic())."""
    return round((time.monotonic() - began) * 1000)


def _session(door: Door) -> ClientSession:
    """Of one request: no connection, cookie or address is another's. It costs 0.1 ms."""
    return ClientSession(
        connector=TCPConnector(resolver=door, socket_factory=door.open, use_dns_cache=False, force_close=True),
        timeout=ClientTimeout(total=None, sock_connect=None),  # whoever asks has a clock
        auto_decompress=False,  # it would unpack before anybody has counted
        max_field_size=MAX_HEADER,
        trust_env=False,  # a proxy of the environment would connect to what was never checked
        middlewares=(_once,),
        response_class=BoundedResponse,
    )


async def _answer(session: ClientSession, hop: Hop) -> ClientResponse:
    """The response without its body."""
    return await session.request(
        hop.method,
        _as_sent(hop.url),
        headers={**_DEFAULTS, **hop.headers},
        data=None if hop.body is None else io.BytesIO(hop.body),  # in pieces: the loop is others', too
        allow_redirects=False,
    )


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """No second try of aiohttp's own where a server closes the connection: it may have done what it was asked."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise aiohttp.ClientConnectionError from None


def _as_sent(url: HttpUrl) -> yarl.URL:
    """As it is: nothing is quoted anew, as what was signed has to stay the same."""
    return yarl.URL(str(url), encoded=True)


def _next(hop: Hop, response: ClientResponse) -> Hop | None:
    """The request that `response` redirects to; None where it is the response to be kept."""
    status, location = response.status, response.headers.get("Location")
    if status not in _REDIRECTS or location is None:
        return None
    try:
        return hop.redirected(status, location)
    except BodyToOtherOrigin as origin:
        reason = (
            f"its response ({status}) redirects the body of the request to another origin, {origin}, and bodies are "
            "not sent there: make the job for that URL"
        )
        raise failed(hop.method, hop.url, reason) from None
    except ValueError:
        raise failed(hop.method, hop.url, f"its response ({status}) redirects to what is no URL of a job") from None


def _is_trusted(url: HttpUrl, before: HttpUrl) -> bool:
    """Whether `url` may get what was meant for `before`: it has the same origin, or upgrades it from http to https."""
    upgrades = (before.scheme, before.port, url.scheme, url.port) == ("http", 80, "https", 443)
    return url.origin == before.origin or (upgrades and url.host == before.host)


async def _read(hop: Hop, response: ClientResponse) -> dict[str, Any]:
    try:
        data = await read_body(response)
    except BadBody as error:
        raise failed(hop.method, hop.url, f"the body of the response {error}") from None
    return {
        "code": response.status,
        "reason": reason_of(response),
        "url": str(hop.url),
        "headers": [[_text(name), _text(value)] for name, value in response.raw_headers],
        **as_json(data, charset_of(response.headers.get("Content-Type", ""))),
    }


def reason_of(response: ClientResponse) -> str:
    """Its reason phrase, as JSON can carry it."""
    return _text((response.reason or "").encode(errors="surrogateescape"))


def _text(data: bytes) -> str:
    """What is not UTF-8 is most likely of an older time (RFC 9110, 5.5)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")

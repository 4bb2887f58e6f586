"""Access control: tokens, and the refusal of requests from pages of other web sites."""

import hmac
import weakref
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.web import Application

from crew.errors import SettingsError
from crew.gateway.body import NoBodyMixin
from crew.gateway.problems import RefusalMixin, RequestRefused

PATHS_WITHOUT_TOKEN: Final = ("/healthz", "/readyz")  # load balancers request them every second, without a token
CHALLENGE: Final = 'Bearer realm="crew"'
CROSS_SITE: Final = (
    "requests from pages of other web sites are not allowed: serve the page from the site of this gateway"
)
OTHER_ORIGIN: Final = (
    "requests from pages of other web sites or ports are not allowed without a token: set CREW_GATEWAY_TOKEN for this "
    "gateway, and send Authorization: Bearer <token>"
)
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
UNNAMED: Final = "CREW_GATEWAY_TOKEN"  # name of the token that has no other
MIN_TOKEN: Final = 16  # characters: the number of guesses is not limited

_SUBMITTERS: Final["weakref.WeakKeyDictionary[HTTPServerRequest, str]"] = weakref.WeakKeyDictionary()


class GuardedApplication(Application):
    """A Tornado application that checks the token and the origin of each request first.

    A page in your browser can make requests to every server that you can reach, so it could call tasks here. Browsers
    name the page's site in `Sec-Fetch-Site` or `Origin`, and requests from other sites are refused. A page can also
    make its own host name resolve to this machine (DNS rebinding). The browser sees no other site then, but `Host` has
    that name, and is checked.

    Args:
        token: required in each request, as `Authorization: Bearer <token>`. None: no token is required. Then `Host`
            must be a loopback name, and the page that makes a request, or opens a WebSocket, must have the same origin:
            pages of other ports belong to other programs. With a token these checks are not needed, as no page knows
            it.
        tokens: more tokens, by the names of the clients that send them. All have the same rights; limits of jobs apply
            to each token separately.

    All other arguments are those of `Application`.
    """

    def __init__(
        self, *given: Any, token: str | None = None, tokens: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(*given, **{"default_handler_class": RefusalHandler, **more})
        named = dict(tokens or {}) if token is None else {UNNAMED: token, **(tokens or {})}
        self._tokens = {name: secret.encode() for name, secret in named.items()}

    @property
    def has_token(self) -> bool:
        """Whether every request needs a token."""
        return bool(self._tokens)

    def find_handler(self, request: HTTPServerRequest, **given: Any) -> Any:
        """The handler of the path, or `RefusalHandler`."""
        refused = self._refusal(request)
        if refused is None:
            return super().find_handler(request, **given)
        return self.get_handler_delegate(request, RefusalHandler, {"refused": refused})

    def _refusal(self, request: HTTPServerRequest) -> RequestRefused | None:
        if request.path in PATHS_WITHOUT_TOKEN:
            return None
        site = request.headers.get("Sec-Fetch-Site", "").lower()
        if site == "cross-site":
            return RequestRefused(403, CROSS_SITE, name="cross-site")
        if not self._tokens:
            return _host_refusal(request) or _origin_refusal(request, site)
        name = _token_name(request, self._tokens)
        if name is None:
            detail = "the token is missing or wrong: send Authorization: Bearer <token>"
            return RequestRefused(401, detail, name="no-token")
        _SUBMITTERS[request] = name
        return None


class RefusalHandler(NoBodyMixin, RefusalMixin):
    """Refuses every request.

    Args:
        refused: the reason, of this request only; None: nothing is served at the path (404).
        hint: added to the reason of a 404.
    """

    def initialize(self, *, refused: RequestRefused | None = None, hint: str = "") -> None:
        """Set the arguments of the route."""
        detail = f"nothing is served at {self.request.path[:200]!r}{hint}"
        self._refused = refused or RequestRefused(404, detail, name="unknown-path")

    def refusal(self) -> RequestRefused:
        """The given reason, or 404."""
        return self._refused

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Respond with the problem document; a 401 also gets the header `WWW-Authenticate`."""
        if status_code == 401:
            self.set_header("WWW-Authenticate", CHALLENGE)
        super().write_error(status_code, **kwargs)


def submitter_of(request: HTTPServerRequest) -> str | None:
    """The name of the token that a request was sent with; None: it needed no token."""
    return _SUBMITTERS.get(request)


def check_access(host: str, token: str | None, tokens: Mapping[str, str] | None = None) -> None:
    """Raise SettingsError if other machines can reach `host` and no token is set, or if a token is too weak."""
    if token is not None and not _is_token(token):
        raise SettingsError(f"CREW_GATEWAY_TOKEN must have {MIN_TOKEN} or more ASCII characters and no spaces")
    for name, secret in (tokens or {}).items():
        if not _is_token(secret):
            raise SettingsError(
                f"token {name!r} of CREW_GATEWAY_TOKENS must have {MIN_TOKEN} or more ASCII characters and no spaces"
            )
    if token is None and not tokens and not is_loopback(host):
        raise SettingsError(
            f"--address {host} lets other machines call every task, and there is no token: set CREW_GATEWAY_TOKEN to a "
            "secret that they must send"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Of all names only localhost is trusted."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_refusal(request: HTTPServerRequest) -> RequestRefused | None:
    if not is_loopback(request.host_name):
        detail = (
            f"Host {request.host[:80]!r} is not allowed without a token: use 127.0.0.1, [::1] or localhost, or set "
            "CREW_GATEWAY_TOKEN for this gateway"
        )
        return RequestRefused(421, detail, name="unknown-host")
    return None


def _origin_refusal(request: HTTPServerRequest, site: str) -> RequestRefused | None:
    """The refusal of a page that this gateway does not serve. Programs send no origin, and may make requests.

    For a browser a page of another port of this machine is "same-site", but another program serves it.
    """
    origins = [value for name in ("Origin", "Sec-WebSocket-Origin") for value in request.headers.get_list(name)]
    if site in ("", "same-origin", "none") and all(_is_same_origin(one, request.host) for one in origins):
        return None
    return RequestRefused(403, OTHER_ORIGIN, name="cross-site")


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether `origin` is on `host` (value of the header). The scheme may differ: a proxy may have changed it."""
    try:
        page = urlsplit(origin)
        default = DEFAULT_PORTS[page.scheme]
        here = urlsplit(f"//{host}")
        return bool(page.hostname) and (page.hostname, page.port or default) == (here.hostname, here.port or default)
    except (KeyError, ValueError):
        return False


def _is_token(text: str) -> bool:
    return len(text) >= MIN_TOKEN and text.isascii() and text.isprintable() and " " not in text


def _token_name(request: HTTPServerRequest, tokens: Mapping[str, bytes]) -> str | None:
    """The name of the token that was sent; None: unknown. All tokens are compared, each in constant time."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    given = text.strip().encode("utf-8", "replace")
    names = [name for name, token in tokens.items() if hmac.compare_digest(given, token)]
    return names[0] if names and scheme.lower() == "bearer" else None

"""Who may come in: those who know the token, where there is one, and no page of another site."""

import hmac
import weakref
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.web import Application

from crew.errors import SettingsError
from crew.gateway.calls.body import NoBodyMixin
from crew.gateway.problem_mixin import RefusingMixin
from crew.gateway.problems import Refused

OPEN_TO_ALL: Final = ("/healthz", "/readyz")  # who asks them, every second, has no token
CHALLENGE: Final = 'Bearer realm="crew"'
CROSS_SITE: Final = "pages of other sites may not make requests here"
OTHER_ORIGIN: Final = (
    "without a token only pages that this gateway itself serves may make requests here, no pages of other sites or "
    "ports: set CREW_GATEWAY_TOKEN, and let them send it"
)
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
UNNAMED: Final = "CREW_GATEWAY_TOKEN"  # name of the token that has none
MIN_TOKEN: Final = 16  # characters: whoever reaches the gateway may guess as often as he likes

_SUBMITTERS: Final["weakref.WeakKeyDictionary[HTTPServerRequest, str]"] = weakref.WeakKeyDictionary()


class GuardedApplication(Application):
    """An application that refuses before anything else is looked at.

    Who can reach the gateway alone would otherwise lend that to every page that he opens. A browser says by
    `Sec-Fetch-Site`, or by `Origin`, that a page of another site makes a request: it may not. A page whose own name
    leads here (DNS rebinding) is of no other site to the browser: it is known by that name, in `Host`.

    Args:
        token: that every request has to bring, as `Authorization: Bearer <token>`; None: none. Then `Host` has to name
            this machine, as whoever comes under another name comes from somewhere else, and a page that makes a request
            must have the same origin: the pages of other ports are those of other programs. This holds for WebSockets,
            too. No page knows the token.
        tokens: more of them, by the names of the clients that bring them: all have the same rights, and limits of jobs
            count for each by itself.

    The rest is as `Application` has it.
    """

    def __init__(
        self, *given: Any, token: str | None = None, tokens: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(*given, **{"default_handler_class": RefusedHandler, **more})
        named = dict(tokens or {}) if token is None else {UNNAMED: token, **(tokens or {})}
        self._tokens = {name: secret.encode() for name, secret in named.items()}

    @property
    def has_token(self) -> bool:
        """Whether every client has to bring a token."""
        return bool(self._tokens)

    def find_handler(self, request: HTTPServerRequest, **given: Any) -> Any:
        """That of the path, or the one that refuses."""
        refused = self._refusal_of(request)
        if refused is None:
            return super().find_handler(request, **given)
        return self.get_handler_delegate(request, RefusedHandler, {"refused": refused})

    def _refusal_of(self, request: HTTPServerRequest) -> Refused | None:
        if request.path in OPEN_TO_ALL:
            return None
        site = request.headers.get("Sec-Fetch-Site", "").lower()
        if site == "cross-site":
            return Refused(403, CROSS_SITE, name="cross-site")
        if not self._tokens:
            return _refusal_of_name(request) or _refusal_of_origin(request, site)
        name = _name_of_token(request, self._tokens)
        if name is None:
            return Refused(401, "this gateway wants its token, as Authorization: Bearer <token>", name="no-token")
        _SUBMITTERS[request] = name
        return None


class RefusedHandler(NoBodyMixin, RefusingMixin):
    """Answers as it is told to.

    Args:
        refused: why, of this request alone; None: nothing is served at the path.
        way_out: said to who asks for what is not there.
    """

    def initialize(self, *, refused: Refused | None = None, way_out: str = "") -> None:
        """Take why."""
        told = f"nothing is served at {self.request.path[:200]!r}{way_out}"
        self._refused = refused or Refused(404, told, name="unknown-path")

    def refusal(self) -> Refused:
        """What was taken."""
        return self._refused

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """As ever, with the challenge."""
        if status_code == 401:
            self.set_header("WWW-Authenticate", CHALLENGE)
        super().write_error(status_code, **kwargs)


def submitter_of(request: HTTPServerRequest) -> str | None:
    """The name of the token that a request has brought; None: it needed none."""
    return _SUBMITTERS.get(request)


def check_door(host: str, token: str | None, tokens: Mapping[str, str] | None = None) -> None:
    """Raise SettingsError where everybody could come in: other machines reach `host`, and there is no token."""
    if token is not None and not _is_token(token):
        raise SettingsError(f"CREW_GATEWAY_TOKEN must have {MIN_TOKEN} or more ASCII characters and no spaces")
    for name, secret in (tokens or {}).items():
        if not _is_token(secret):
            raise SettingsError(
                f"token {name!r} of CREW_GATEWAY_TOKENS must have {MIN_TOKEN} or more ASCII characters and no spaces"
            )
    if token is None and not tokens and not is_loopback(host):
        raise SettingsError(
            f"--host {host} lets other machines in, who could run every task: set CREW_GATEWAY_TOKEN to a secret that "
            "they have to bring"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name but localhost may mean anything."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _refusal_of_name(request: HTTPServerRequest) -> Refused | None:
    if not is_loopback(request.host_name):
        told = (
            f"this gateway is for who asks for it as 127.0.0.1, [::1] or localhost, not as {request.host[:80]!r}: "
            "set CREW_GATEWAY_TOKEN to serve it under other names"
        )
        return Refused(421, told, name="unknown-host")
    return None


def _refusal_of_origin(request: HTTPServerRequest, site: str) -> Refused | None:
    """Without a token only pages that this gateway serves may make requests, and programs, which name no origin.

    A page of another port of this machine is "same-site" to a browser, and another program serves it.
    """
    origins = [value for name in ("Origin", "Sec-WebSocket-Origin") for value in request.headers.get_list(name)]
    if site in ("", "same-origin", "none") and all(_is_same_origin(one, request.host) for one in origins):
        return None
    return Refused(403, OTHER_ORIGIN, name="cross-site")


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from `host`, as the header names it. A proxy may have changed the scheme."""
    try:
        page = urlsplit(origin)
        default = DEFAULT_PORTS[page.scheme]
        here = urlsplit(f"//{host}")
        return bool(page.hostname) and (page.hostname, page.port or default) == (here.hostname, here.port or default)
    except (KeyError, ValueError):
        return False


def _is_token(text: str) -> bool:
    return len(text) >= MIN_TOKEN and text.isascii() and text.isprintable() and " " not in text


def _name_of_token(request: HTTPServerRequest, tokens: Mapping[str, bytes]) -> str | None:
    """Of the one that `request` has brought. It takes the same time whichever that is."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    given = text.strip().encode("utf-8", "replace")
    names = [name for name, token in tokens.items() if hmac.compare_digest(given, token)]
    return names[0] if names and scheme.lower() == "bearer" else None

"""The URL of a URL job: parsed once, so that the request goes to exactly the URL that was checked.

The check and the connection must not interpret a URL differently. So a URL with two interpretations is refused here:
https://www.blackhat.com/docs/us-17/thursday/us-17-Tsai-A-New-Era-Of-SSRF-Exploiting-URL-Parser-In-Trending-Programming-Languages.pdf
No error message contains a user, a password, or a query, which may contain a token.
"""

import base64
import contextlib
import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit

import msgspec

from crew.protocol.http_job import address

MAX_URL: Final = 8_000  # characters; RFC 9110, 4.1, recommends to support at least this length
_PORTS: Final = {"http": 80, "https": 443}
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")  # some parsers drop them, some replace them by others
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_MAX_NAME: Final = 253  # characters of a host; RFC 1035, 2.3.4
_TWO_READINGS: Final = set("ßς\u200c\u200d")  # the two versions of IDNA convert these to different hosts; UTS 46, 7
_KEPT: Final = "!$&'()*+,;=:@/?%[]~"  # characters of path and query that are not quoted


class HttpUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed http or https URL.

    Attributes:
        scheme: "http" or "https".
        host: in lower case and ASCII; an IPv6 address without brackets.
        target: path and query, quoted.
        login: value for an Authorization header, from the user and password of the URL; or "".
    """

    scheme: str
    host: str
    port: int
    target: str
    login: str = ""

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"

    def __repr__(self) -> str:
        return f"HttpUrl({self.redacted})"

    @property
    def origin(self) -> str:
        """Scheme, host and port: URLs with the same origin may share secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def redacted(self) -> str:
        """The URL without login and query, for logs and error messages."""
        path, mark, _ = self.target.partition("?")
        return f"{self.origin}{path}{mark and '?***'}"

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, not a name."""
        return address.parsed(self.host) is not None

    def joined(self, location: str) -> "HttpUrl":
        """Return the target of a redirect with this Location, without a login: it would be the server's choice.

        Raises:
            ValueError: the target is not a valid URL for a job.
        """
        quoted = location.strip(" ").replace(" ", "%20")  # as browsers do
        if _UNSAFE.search(quoted):
            raise ValueError("the Location of a redirect contains a backslash or a control character")
        found = parse_url(urljoin(str(self), quoted))
        return msgspec.structs.replace(found, login="")


def parse_url(url: object) -> HttpUrl:
    """Parse `url`. Other characters than ASCII are quoted, in the host by IDNA; a fragment is removed.

    Raises:
        ValueError: it is not an http or https URL with a host, has more than `MAX_URL` characters, or can be
            interpreted
            in two ways.
    """
    if not isinstance(url, str):
        raise ValueError(f"url must be a string, not {type(url).__name__}")
    if len(url) > MAX_URL:
        raise ValueError(f"url has {len(url)} characters, more than {MAX_URL}")
    if _UNSAFE.search(url):
        raise ValueError(
            f"{redacted_url(url)!r} contains a space, a backslash or a control character: quote it, as %20 for a space"
        )
    found = _split(url)
    return HttpUrl(
        scheme=found.scheme,
        host=_host(found, url),
        port=_port(found, url),
        target=_target(found, url),
        login=_login(found),
    )


def redacted_url(url: str) -> str:
    """Return `url`, which may be invalid, without user, password and query, and shortened, for logs and messages."""
    try:
        found = urlsplit(url)
        is_plain = found.port != 0 and found.scheme in _PORTS
    except ValueError:
        is_plain = False
    if not is_plain:  # then an unquoted password may be anywhere before the last @
        url = re.sub(r"^(\w+://)?.*@", r"\1***@", url, flags=re.DOTALL)
    url = re.sub(r"^(\w+://)[^/?#]*@", r"\1***@", url)
    path, mark, _ = url.partition("?")
    return f"{path[:200]}{mark and '?***'}"


def without_login(url: str) -> str:
    """Return `url`, a valid URL, without its user and password."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)


def _split(url: str) -> SplitResult:
    with contextlib.suppress(ValueError):
        found = urlsplit(url)
        if found.scheme in _PORTS and found.hostname:
            return found
    raise ValueError(f"{redacted_url(url)!r} is not a valid URL for a job: write http://host/path or https://host/path")


def _port(found: SplitResult, url: str) -> int:
    try:
        port = found.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"the port of {redacted_url(url)!r} is not a number from 1 to 65535")
    return port or _PORTS[found.scheme]


def _host(found: SplitResult, url: str) -> str:
    host = found.hostname or ""
    if "[" in found.netloc or ":" in host:
        return _ipv6(host, url)
    name = _ascii(host, url).lower()
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(name, url)
    if len(name) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"the host of {redacted_url(url)!r} is not a valid name or address")
    return name


def _ascii(host: str, url: str) -> str:
    if host.isascii():
        return host
    try:
        if len(host) > _MAX_NAME or _TWO_READINGS & set(host):
            raise UnicodeError
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(
            f"the host of {redacted_url(url)!r} cannot be converted to ASCII: write it as xn--..."
        ) from None


def _ipv6(host: str, url: str) -> str:
    try:
        if "%" in host:
            raise AddressValueError
        return IPv6Address(host).compressed
    except AddressValueError:
        raise ValueError(
            f"the host of {redacted_url(url)!r} is not an IPv6 address: write it like [2001:db8::1]"
        ) from None


def _ipv4(name: str, url: str) -> str:
    """Refuse other spellings (2130706433, 0x7f.1, 0177.0.0.1): some parsers read them as addresses, some as names."""
    try:
        return str(IPv4Address(name))
    except AddressValueError:
        raise ValueError(
            f"the host of {redacted_url(url)!r} is not an IPv4 address: write four numbers, like 93.184.216.34"
        ) from None


def _target(found: SplitResult, url: str) -> str:
    try:
        path, query = (quote(part, safe=_KEPT) for part in (found.path or "/", found.query))
    except UnicodeEncodeError:
        raise ValueError(f"{redacted_url(url)!r} is not valid Unicode") from None
    return f"{path}?{query}" if query else path


def _login(found: SplitResult) -> str:
    """Return the value of the Authorization header by RFC 7617, or ""."""
    if found.username is None:
        return ""
    plain = unquote_to_bytes(f"{found.username}:{found.password or ''}")
    return f"Basic {base64.b64encode(plain).decode()}"

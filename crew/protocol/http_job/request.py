"""The HTTP request of a URL job as a value; checked when it is submitted, and again when it is sent."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from crew.duration import parse_duration
from crew.protocol.encoding.foreign import brief
from crew.protocol.http_job.url import HttpUrl, parse_url, redacted_url
from crew.protocol.topology import HTTP_TASK

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DEFAULT_TIMEOUT: Final = 60.0  # seconds
MAX_HEADERS: Final = 32 * 1024  # bytes of all names and values; most servers accept less
FORM: Final = "application/x-www-form-urlencoded"
_ARGUMENTS: Final = ("url", "method", "headers", "data", "timeout")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab
_OURS: Final = {  # headers of the transport, which crew sets itself: RFC 9110, 7.6.1
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request; its `repr` contains no secrets.

    Attributes:
        url: the URL as given, with its login.
        target: the parsed URL of the first request.
        headers: headers with their names as given.
        data: None, a string, or any other JSON value.
        timeout: seconds for the whole exchange, with redirects and the body of the response.
    """

    url: str
    target: HttpUrl
    method: str = "GET"
    headers: dict[str, str] = {}
    data: Any = None
    timeout: float = DEFAULT_TIMEOUT

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {redacted_url(self.url)}>"

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of the call: the arguments of `check_request`."""
        return {name: getattr(self, name) for name in _ARGUMENTS}

    @property
    def content_type(self) -> str | None:
        """The Content-Type of `headers`, else text or JSON, by `data`; None without data."""
        if self.data is None:
            return None
        default = "text/plain; charset=utf-8" if isinstance(self.data, str) else "application/json"
        return _content_type_of(self.headers) or default

    @property
    def body(self) -> bytes | None:
        """`data` encoded: a string unchanged, an object as a form if the Content-Type is a form, else JSON."""
        if self.data is None or isinstance(self.data, str):
            return None if self.data is None else self.data.encode()
        if _is_form(self.headers):
            return urlencode(self.data, doseq=True).encode()
        return msgspec.json.encode(self.data)


def check_request(
    *, url: object, method: object = None, headers: object = None, data: object = None, timeout: object = None
) -> HttpRequest:
    """Check the arguments of a request and return it.

    Args:
        url: http or https.
        method: one of `METHODS`; default POST where there is data, else GET.
        headers: a dict of strings, without headers of the transport (Host, Content-Length, ...).
        data: a string, sent as text/plain, or another JSON value, sent as application/json. A `Content-Type` header
            replaces this type; with application/x-www-form-urlencoded an object is sent as a form. Default: no body.
        timeout: seconds; default 60.

    Raises:
        ValueError: an argument is invalid; the message contains no secrets.
    """
    found = parse_url(url)
    checked = _headers(headers)
    if found.login and any(name.lower() == "authorization" for name in checked):
        raise ValueError("the url contains a user and the headers contain Authorization: remove one of them")
    return HttpRequest(
        url=str(url),
        target=found,
        method=_method(method, has_data=data is not None),
        headers=checked,
        data=_data(data, checked),
        timeout=DEFAULT_TIMEOUT if timeout is None else parse_duration("timeout", timeout),
    )


def request_of(payload: object) -> HttpRequest:
    """Decode the request from the payload of a call: a dict with the arguments of `check_request`.

    Raises:
        ValueError: it is not a valid request.
    """
    if not isinstance(payload, dict) or not payload.keys() <= set(_ARGUMENTS):
        names = ", ".join(_ARGUMENTS)
        raise ValueError(f"the data of task {HTTP_TASK!r} must be an object with {names} and nothing else")
    if "url" not in payload:
        raise ValueError(f"the data of task {HTTP_TASK!r} must have a url")
    return check_request(**payload)


def _method(method: object, *, has_data: bool) -> str:
    if method is None:
        return "POST" if has_data else "GET"
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {brief(method)}")
    return method.upper()


def _headers(headers: object) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise ValueError(f"headers must be an object of strings, not {type(headers).__name__}")
    size = sum(_header_size(name, value) for name, value in headers.items())
    if size > MAX_HEADERS:
        raise ValueError(f"the headers have {size} bytes, more than {MAX_HEADERS}")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the headers contain a name twice, in upper and lower case")
    return headers


def _header_size(name: object, value: object) -> int:
    """Return the size of one header in bytes. Errors never contain its value: it may be a secret."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"the name of a header must consist of letters, digits and -, not {brief(name)}")
    if name.lower() in _OURS:
        raise ValueError(f"header {brief(name)} is not allowed: crew sets it itself")
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError(f"header {brief(name)} must be a string without line breaks and control characters")
    return len(name) + _utf8_size(f"header {brief(name)}", value)


def _data(data: object, headers: Mapping[str, str]) -> object:
    if isinstance(data, str):
        _utf8_size("data", data)
    elif isinstance(data, bytes | bytearray | memoryview):
        raise ValueError("data must be a string or JSON, not bytes")
    elif data is not None and _is_form(headers):
        _check_form(data)
    return data


def _check_form(data: object) -> None:
    if not isinstance(data, dict) or not all(_is_field(value) for value in data.values()):
        raise ValueError(f"data must be a string, or an object of strings and numbers, where it is sent as {FORM}")


def _is_field(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, str | int | float) for one in values)


def _is_form(headers: Mapping[str, str]) -> bool:
    return (_content_type_of(headers) or "").partition(";")[0].strip().lower() == FORM


def _content_type_of(headers: Mapping[str, str]) -> str | None:
    return next((value for name, value in headers.items() if name.lower() == "content-type"), None)


def _utf8_size(what: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid Unicode") from None

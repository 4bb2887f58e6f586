"""What a URL job asks for: a request of HTTP as a value, checked where it is submitted, and again where it is sent."""

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
MAX_HEADERS: Final = 32 * 1024  # bytes of all names and values; most servers take less
FORM: Final = "application/x-www-form-urlencoded"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab
_OURS: Final = {  # they say how a message travels, which is for who sends it: RFC 9110, 7.6.1
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
    """A request that was checked; its `repr` shows none of its secrets.

    Attributes:
        url: as it was given, a login included.
        headers: by their names as they were given.
        data: None, a string, or anything else that JSON has.
        timeout: seconds for all of it, redirects and the body of the response included.
    """

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    data: Any = None
    timeout: float = DEFAULT_TIMEOUT

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {redacted_url(self.url)}>"

    @property
    def target(self) -> HttpUrl:
        """Where it goes first."""
        return parse_url(self.url)

    @property
    def content_type(self) -> str | None:
        """What `headers` say, else what `data` is: text, or JSON; None where there is no data."""
        if self.data is None:
            return None
        default = "text/plain; charset=utf-8" if isinstance(self.data, str) else "application/json"
        return _content_type_of(self.headers) or default

    @property
    def body(self) -> bytes | None:
        """`data` as it travels: a string as it is, an object as a form where the Content-Type says so, else JSON."""
        if self.data is None or isinstance(self.data, str):
            return None if self.data is None else self.data.encode()
        if _is_form(self.headers):
            return urlencode(self.data, doseq=True).encode()
        return msgspec.json.encode(self.data)


def check_request(
    *, url: object, method: object = None, headers: object = None, data: object = None, timeout: object = None
) -> HttpRequest:
    """The request that these ask for.

    Args:
        url: http or https.
        method: one of `METHODS`; default POST where there is data, else GET.
        headers: a dict of strings; none of those that say how the message travels (Host, Content-Length, ...).
        data: a string, sent as text/plain; anything else that JSON has, sent as application/json; a `Content-Type`
            among the headers takes their place, and makes a form of an object where it is
            application/x-www-form-urlencoded. Default: no body.
        timeout: seconds; default 60.

    Raises:
        ValueError: one of them cannot be, in one sentence that holds no secrets.
    """
    found = parse_url(url)
    checked = _headers(headers)
    if found.login and any(name.lower() == "authorization" for name in checked):
        raise ValueError("the url has a user, and the headers have an Authorization: leave one of them out")
    return HttpRequest(
        url=str(url),
        method=_method(method, has_data=data is not None),
        headers=checked,
        data=_data(data, checked),
        timeout=DEFAULT_TIMEOUT if timeout is None else parse_duration("timeout", timeout),
    )


def request_of(payload: object) -> HttpRequest:
    """The request in the payload of a call: a dict of the arguments of `check_request`.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(payload, dict) or not payload.keys() <= set(HttpRequest.__struct_fields__):
        names = ", ".join(HttpRequest.__struct_fields__)
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
        raise ValueError("the headers have one name twice, in upper and lower case")
    return headers


def _header_size(name: object, value: object) -> int:
    """Bytes of one header. Its value is never shown: it may be a secret."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"the name of a header must be letters, digits and -, not {brief(name)}")
    if name.lower() in _OURS:
        raise ValueError(
            f"header {brief(name)} cannot be given: it says how the request travels, and crew sets it itself"
        )
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

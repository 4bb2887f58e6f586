"""The caller's own headers of a message: validation before sending, selection after receiving."""

from typing import Final

from crew.protocol.encoding.foreign import brief
from crew.protocol.message import Headers

MAX_HEADERS: Final = 64 * 1024  # bytes of all names and values: they share a frame of 128 KiB with the properties
_RESERVED: Final = ("crew-", "x-")  # prefixes of crew's and the broker's headers
# RabbitMQ routes by these, and closes the channel where they are not an array of strings:
# https://www.rabbitmq.com/docs/sender-selected
_ROUTING: Final = frozenset({"cc", "bcc"})


def check(headers: Headers | None) -> Headers:
    """Check the caller's own headers and return them, or {}.

    Raises:
        ValueError: they are not a dict or too large; a name is not a string, has over 128 bytes, or is reserved; a
            value
            is not a str, an int of 64 bits or a bool.
    """
    if not headers:
        return {}
    if not isinstance(headers, dict):
        raise ValueError(f"headers must be a dict, not {brief(headers)}")
    size = sum(_header_size(name, value) for name, value in headers.items())
    if size > MAX_HEADERS:
        raise ValueError(f"the headers have {size} bytes, more than {MAX_HEADERS}")
    return headers


def _header_size(name: object, value: object) -> int:
    """Return the size of one header in bytes; raise ValueError where it is not allowed."""
    if not isinstance(name, str) or not 0 < _utf8_size("the name of a header", name) <= 128:
        raise ValueError(f"the name of a header must be a string of 1 to 128 bytes, not {brief(name)}")
    if name.lower().startswith(_RESERVED):
        raise ValueError(
            f"header {brief(name)} is reserved: use a name that does not begin with {' or '.join(_RESERVED)}"
        )
    if name.lower() in _ROUTING:
        raise ValueError(f"header {brief(name)} is reserved: RabbitMQ routes messages by CC and BCC")
    if isinstance(value, str):
        return len(name) + _utf8_size("header", value, name=name)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return len(name) + 9
    raise ValueError(f"header {brief(name)} must be a str, an int of 64 bits, or a bool, not {brief(value)}")


def _utf8_size(what: str, text: str, *, name: str | None = None) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        what = what if name is None else f"{what} {brief(name)}"
        raise ValueError(f"{what} must be valid Unicode, not {brief(text)}") from None


def own(headers: Headers) -> Headers:
    """Return the headers that are neither crew's nor the broker's."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(name, str) and not name.startswith(_RESERVED) and name.lower() not in _ROUTING
    }


def sendable(headers: Headers) -> Headers:
    """Return the received `headers` that may be sent again; {} where they are too large together."""
    allowed = {name: value for name, value in own(headers).items() if _is_allowed(name, value)}
    return allowed if sum(_header_size(name, value) for name, value in allowed.items()) <= MAX_HEADERS else {}


def _is_allowed(name: str, value: object) -> bool:
    try:
        _header_size(name, value)
    except ValueError:
        return False
    return True

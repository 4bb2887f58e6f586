"""The user's own headers of a message: which can travel, and which are his among those that came."""

from typing import Final

from crew.protocol.encoding.foreign import brief
from crew.protocol.message import Headers

MAX_HEADERS: Final = 64 * 1024  # bytes of all names and values: they share a frame of 128 KiB with the properties
_RESERVED: Final = ("crew-", "x-")  # the broker's and ours; the user's own headers begin with anything else
# RabbitMQ routes by these, and closes the channel where they hold anything but an array of strings:
# https://www.rabbitmq.com/docs/sender-selected
_ROUTING: Final = frozenset({"cc", "bcc"})


def check(headers: Headers | None) -> Headers:
    """Return the user's headers, or {}.

    Raises:
        ValueError: they are no dict or too large; a name is no string, is over 128 bytes, or is reserved; a value is no
            str, int of 64 bits, or bool.
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
    """Bytes of one header of the user; raises ValueError where it cannot travel."""
    if not isinstance(name, str) or not 0 < _utf8_size("the name of a header", name) <= 128:
        raise ValueError(f"the name of a header must be a string of 1 to 128 bytes, not {brief(name)}")
    if name.lower().startswith(_RESERVED):
        raise ValueError(f"header {brief(name)} is reserved: begin it with anything but {' or '.join(_RESERVED)}")
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
    """Those of `headers` that are neither crew's nor the broker's."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(name, str) and not name.startswith(_RESERVED) and name.lower() not in _ROUTING
    }


def sendable(headers: Headers) -> Headers:
    """Those of somebody else's `headers` that can be sent on; none where they are too large together."""
    mine = {name: value for name, value in own(headers).items() if _can_travel(name, value)}
    return mine if sum(_header_size(name, value) for name, value in mine.items()) <= MAX_HEADERS else {}


def _can_travel(name: str, value: object) -> bool:
    try:
        _header_size(name, value)
    except ValueError:
        return False
    return True

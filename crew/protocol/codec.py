"""Payload to body and back: content types, compression, and what a receiver accepts.

The sender names a serializer, the receiver decides: a content type that is not on the receiver's allow-list, or a body
that decompresses beyond its cap, is refused before anything is decoded.
"""

import functools
import math
import zlib
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from crew.errors import SerializationError, SettingsError, TooLarge
from crew.protocol.message import Body
from crew.protocol.payload_path import refused_value

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"

Decode = Callable[[Body], Any]
_Checks = dict[type, Callable[[Any], None]]  # by the exact type of a value; each raises TypeError or ValueError

SERIALIZERS: Final = {"json": JSON, "msgpack": MSGPACK, "text": TEXT, "bytes": BYTES}
ALLOWED: Final = frozenset(SERIALIZERS.values())

COMPRESS_ABOVE: Final = 32 * 1024  # bytes
COMPRESSION_LEVEL: Final = 1  # 9 gains a few percent for ten times the time of a process that must not block
MAX_BODY: Final = 16 * 1024 * 1024  # bytes as they travel, unless the sender says otherwise: see Settings.max_message
MAX_DECOMPRESSED: Final = 64 * 1024 * 1024  # bytes, unless the receiver says otherwise
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_GZIP_WBITS: Final = 31  # zlib's way to say: with gzip's header and trailer

_REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError)  # of msgspec, and of the checks below
_JSON_EXACT: Final = frozenset({str, int, bool, type(None)})


def encode(payload: Any, serializer: str | None = None, *, max_size: int = MAX_BODY, compresses: bool = True) -> Body:
    """`payload` as a body.

    Args:
        serializer: "json", "msgpack", "text" or "bytes"; by default bytes travel as they are, anything else as JSON.
        max_size: bytes that the body may have as it travels.
        compresses: a large one, where that makes it smaller.

    Raises:
        SerializationError: the serializer cannot carry the payload so that the receiver gets an equal value.
        TooLarge: it has more than `max_size` bytes, compressed where that makes it smaller.
        ValueError: there is no such serializer.
    """
    content_type = _content_type(payload, serializer)
    try:
        data = _ENCODERS[content_type](payload)
    except _REFUSALS as error:
        raise SerializationError(
            f"{content_type} cannot carry this payload: {_located(error, payload, content_type)}"
        ) from None
    body = _compressed(data, content_type) if compresses else Body(data, content_type)
    if len(body.data) > max_size:
        raise TooLarge(f"the payload encodes to {len(body.data)} bytes, more than the {max_size} of a message")
    return body


def decode(body: Body, *, allowed: Collection[str] = ALLOWED, max_size: int = MAX_DECOMPRESSED) -> Any:
    """The payload in `body`; a body with no content type is bytes.

    Args:
        allowed: the content types that this receiver accepts.
        max_size: bytes that the body may have once it is decompressed.

    Raises:
        SerializationError: not allowed, not what its type says, or too large.
    """
    content_type = (body.content_type or BYTES).partition(";")[0].strip().lower()
    if content_type not in allowed or content_type not in _DECODERS:
        raise SerializationError(f"content type {content_type!r} is not accepted here, only {_listed(allowed)}")
    data = _decompressed(body, max_size)
    try:
        return _DECODERS[content_type](data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SerializationError(f"the body is not valid {content_type}: {error}") from None


def from_json(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, which may begin with a byte order mark (RFC 8259 §8.1).

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return _JSON_DECODER.decode(text.removeprefix(_BYTE_ORDER_MARK))


def decoder(serializers: Collection[str], max_size: int) -> Decode:
    """`decode` for a receiver that accepts what `serializers` write, up to `max_size` bytes.

    Raises:
        SettingsError: there is no such serializer.
    """
    unknown = sorted(set(serializers) - set(SERIALIZERS))
    if unknown:
        raise SettingsError(f"there is no serializer {unknown[0]!r} to accept, only {', '.join(SERIALIZERS)}")
    allowed = frozenset(SERIALIZERS[name] for name in serializers)
    return functools.partial(decode, allowed=allowed, max_size=max_size)


def _content_type(payload: Any, serializer: str | None) -> str:
    if serializer is None:
        return BYTES if isinstance(payload, bytes | bytearray | memoryview) else JSON
    try:
        return SERIALIZERS[serializer]
    except (KeyError, TypeError):
        raise ValueError(f"serializer must be one of {', '.join(SERIALIZERS)}, not {serializer!r}") from None


def _compressed(data: bytes, content_type: str) -> Body:
    if len(data) > COMPRESS_ABOVE:
        smaller = zlib.compress(data, COMPRESSION_LEVEL, wbits=_GZIP_WBITS)
        if len(smaller) < len(data):
            return Body(smaller, content_type, "gzip")
    return Body(data, content_type)


def _decompressed(body: Body, max_size: int) -> bytes:
    if body.content_encoding in (None, "", "identity"):
        if len(body.data) > max_size:
            raise SerializationError(f"the body has {len(body.data)} bytes, more than the {max_size} accepted here")
        return body.data
    if body.content_encoding != "gzip":
        raise SerializationError(f"content encoding {body.content_encoding!r} is not accepted here, only gzip")
    decompressor = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        data = decompressor.decompress(body.data, max_size + 1)
    except zlib.error as error:
        raise SerializationError(f"the body is not valid gzip: {error}") from None
    if len(data) > max_size:
        raise SerializationError(f"the body decompresses to more than the {max_size} bytes accepted here")
    if not decompressor.eof:
        raise SerializationError("the body is not valid gzip: it ends too early")
    if decompressor.unused_data:
        raise SerializationError("the body is not valid gzip: something follows its end")
    return data


def _listed(allowed: Collection[str]) -> str:
    return ", ".join(sorted(allowed)) or "nothing"


# --- what a serializer can carry faithfully -------------------------------------------------------------------------


def _encode_json(payload: Any) -> bytes:
    return _encode(payload, _JSON_ENCODER.encode, _JSON_CHECKS)


def _encode_msgpack(payload: Any) -> bytes:
    return _encode(payload, _MSGPACK_ENCODER.encode, _MSGPACK_CHECKS)


def _encode(payload: Any, encoded: Callable[[Any], bytes], checks: _Checks) -> bytes:
    data = encoded(payload)  # first, as it ends on a payload that contains itself
    if _check(payload, checks):
        return data
    plain = _plain(payload)  # msgspec ignores what a subclass has changed, the order of an OrderedDict for one
    _check(plain, checks)
    return encoded(plain)


def _plain(value: Any) -> Any:
    """A copy with dict and list in place of their subclasses and of tuples."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in dict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def _encode_text(payload: Any) -> bytes:
    if not isinstance(payload, str):
        raise TypeError(f"{_kind(payload)} is no str")
    return payload.encode("utf-8")


def _encode_bytes(payload: Any) -> bytes:
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"{_kind(payload)} is not bytes")
    return bytes(payload)


def _check(payload: Any, checks: _Checks) -> bool:
    """Raise for anything in `payload` that would arrive as something else.

    msgspec writes bytes as base64 text, a set as a list, NaN as null; the caller would only notice in the task.
    Containers whose members are all plain are settled by one pass in C.

    Returns:
        False where it ends early, at a subclass of dict, list or tuple: `_plain` makes one of these of it.
    """
    waiting: list[Any] = [payload]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in _JSON_EXACT:
            continue
        if kind is dict:
            if not set(map(type, value)) <= {str}:
                checks[dict](value)
            members = value.values()
        elif kind is list or kind is tuple:
            members = value
        elif isinstance(value, dict | list | tuple):
            return False
        else:
            _check_scalar(value, checks)
            continue
        if not set(map(type, members)) <= _JSON_EXACT:
            waiting.extend(members)
    return True


def _check_scalar(value: Any, checks: _Checks) -> None:
    check = checks.get(type(value))
    if check is None:
        raise TypeError(f"{_kind(value)} would not arrive as it is; convert it first, with str() for example")
    check(value)


def _check_json_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            raise TypeError(f"it has the key {key!r}, and JSON's keys are strings")


def _check_msgpack_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) not in (str, int, bytes):
            raise TypeError(f"it has the key {key!r}, which would not arrive as it is")


def _check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"JSON has no number {value!r}")


def _refuse_bytes(value: bytes) -> None:
    raise TypeError('a bytes would not arrive as it is in JSON; use serializer="msgpack", or base64')


def _carried(value: Any) -> None:
    pass


def _kind(value: Any) -> str:
    return f"a {type(value).__qualname__}"


def _located(error: Exception, payload: Any, content_type: str) -> str:
    """Why `payload` is refused, and where in it."""
    checks = {JSON: _JSON_CHECKS, MSGPACK: _MSGPACK_CHECKS}.get(content_type)
    if checks is None:  # text and bytes have no inside
        return str(error)

    def refusal(value: Any) -> Exception | None:
        try:
            if isinstance(value, dict):  # these sentences are clearer than those of msgspec
                checks[dict](value)
            elif not isinstance(value, list | tuple | str | int | None):
                _check_scalar(value, checks)
            _ENCODERS[content_type](value)
        except _REFUSALS as error:
            return error
        return None

    path, reason = refused_value(payload, refusal)
    return f"{path}: {reason}"


_JSON_CHECKS: Final[_Checks] = {float: _check_finite, bytes: _refuse_bytes, dict: _check_json_keys}
_MSGPACK_CHECKS: Final[_Checks] = {
    float: _carried,
    bytes: _carried,
    dict: _check_msgpack_keys,
}

_JSON_ENCODER: Final = msgspec.json.Encoder()
_JSON_DECODER: Final = msgspec.json.Decoder()
_MSGPACK_ENCODER: Final = msgspec.msgpack.Encoder()
_MSGPACK_DECODER: Final = msgspec.msgpack.Decoder()

_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    JSON: _encode_json,
    MSGPACK: _encode_msgpack,
    TEXT: _encode_text,
    BYTES: _encode_bytes,
}
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    JSON: from_json,
    MSGPACK: _MSGPACK_DECODER.decode,
    TEXT: lambda data: data.decode("utf-8"),
    BYTES: bytes,
}

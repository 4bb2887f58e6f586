"""Encodes payloads as bodies and decodes them: content types, compression, and the limits of a receiver.

The sender chooses a serializer, and the receiver has an allow-list. A content type that is not on the list, or a body
that decompresses beyond the limit, is refused before anything is decoded.
"""

import functools
import math
import sys
import zlib
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

import msgspec

from crew.errors import SerializationError, SettingsError, TooLarge
from crew.protocol.encoding import large_json, large_msgpack
from crew.protocol.encoding.foreign import brief, unreadable
from crew.protocol.encoding.limits import DEFAULT, Budget, Limits, too_deep, without_collection
from crew.protocol.encoding.payload_path import refused_value
from crew.protocol.message import Body

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"

Decode = Callable[[Body], Any]
_Checks = dict[type, Callable[[Any], None]]  # exact type of a value -> check, which raises TypeError or ValueError

SERIALIZERS: Final = {"json": JSON, "msgpack": MSGPACK, "text": TEXT, "bytes": BYTES}
ALLOWED: Final = frozenset(SERIALIZERS.values())

COMPRESS_ABOVE: Final = 32 * 1024  # bytes
LARGE: Final = 32 * 1024  # bytes: msgspec decodes the worst case within 10 ms
QUICK: Final = 256 * 1024  # bytes: zlib compresses the worst case within about 10 ms
COMPRESSION_LEVEL: Final = 1  # level 9 gains a few percent, and takes ten times as long
MAX_BODY: Final = 16 * 1024 * 1024  # bytes of an encoded body by default: see Settings.max_message
MAX_DECOMPRESSED: Final = 64 * 1024 * 1024  # bytes by default: see Settings.max_payload
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PLAIN: Final = (None, "", "identity")
_GZIP_WBITS: Final = 31  # for zlib: with the header and trailer of gzip

_REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError)  # errors of msgspec and of the checks below
_JSON_EXACT: Final = frozenset({str, int, bool, type(None)})
_JSON_EXACT_OR_FLOAT: Final = _JSON_EXACT | {float}


def encode(payload: Any, serializer: str | None = None, *, max_size: int = MAX_BODY, compresses: bool = True) -> Body:
    """Encode `payload` as a body; return a Body unchanged.

    Args:
        serializer: "json", "msgpack", "text" or "bytes"; default: "bytes" for bytes, else "json".
        max_size: limit of the encoded body in bytes.
        compresses: whether a large body is compressed, where that makes it smaller.

    Raises:
        SerializationError: the serializer cannot carry the payload so that the receiver gets an equal value.
        TooLarge: the body has more than `max_size` bytes.
        ValueError: the serializer does not exist.
    """
    if type(payload) is Body:
        return fitting(payload, max_size)
    content_type = _content_type(payload, serializer)
    try:
        data = _ENCODERS[content_type](payload)
    except _REFUSALS as error:
        raise SerializationError(
            f"{content_type} cannot carry this payload: {_located(error, payload, content_type)}"
        ) from None
    return fitting(_compressed(data, content_type) if compresses else Body(data, content_type), max_size)


def encode_on_loop(payload: Any, serializer: str | None = None, *, max_size: int = MAX_BODY) -> Body:
    """As `encode`, but a body of more than `QUICK` bytes is not compressed yet: see `Body.to_compress`.

    For event loops: they do not encode in a thread, because their code may change the payload meanwhile.
    """
    if type(payload) is Body:
        return fitting(payload, max_size)
    body = encode(payload, serializer, max_size=sys.maxsize, compresses=False)
    if len(body.data) > QUICK:
        return Body(body.data, body.content_type, to_compress=True)
    return compressed(body, max_size)


def compressed(body: Body, max_size: int) -> Body:
    """Finish the body of `encode_on_loop`; raise TooLarge where it has more than `max_size` bytes."""
    return fitting(packed(body), max_size)


def fitting(body: Body, max_size: int) -> Body:
    """Return `body`; raise TooLarge where it has more than `max_size` bytes."""
    if len(body.data) > max_size:
        raise TooLarge(f"the encoded payload has {len(body.data)} bytes, more than the limit of a message ({max_size})")
    return body


def decode(
    body: Body,
    *,
    allowed: Collection[str] = ALLOWED,
    max_size: int = MAX_DECOMPRESSED,
    limits: Limits = DEFAULT,
    keeps: bool = True,
) -> Any:
    """Decode the payload in `body`; a body without a content type is bytes.

    A body of more than `LARGE` bytes is decoded in pieces, so that other threads run in between. An event loop should
    decode it in a thread, see `is_large` and `crew.client.off_loop`.

    Args:
        allowed: the content types that this receiver accepts.
        max_size: limit of the decompressed body in bytes.
        limits: limits of the payload: elements, depth and memory.
        keeps: False: the body is only checked, and the returned value has no meaning.

    Raises:
        SerializationError: the type is not allowed, the body is not valid or too large. No other error is raised.
    """
    content_type = content_type_of(body)
    if content_type not in allowed or content_type not in _DECODERS:
        raise SerializationError(f"content type {brief(content_type)} is not accepted here, only {_listed(allowed)}")
    try:
        data = _decompressed(body, max_size)
        if len(data) > LARGE:
            with without_collection():
                return _LARGE_DECODERS[content_type](data, Budget(limits), keeps=keeps)
        if len(data) > limits.depth and content_type in _IS_TOO_DEEP and _IS_TOO_DEEP[content_type](data, limits.depth):
            raise too_deep(limits)
        return _DECODERS[content_type](data)
    except Exception as error:
        raise unreadable(f"the body is not valid {content_type}", error) from None


def check(body: Body, decode: Decode) -> None:
    """Raise SerializationError where `decode` (from `decoder`) would, without keeping the payload in memory."""
    decode(body, keeps=False)  # type: ignore[call-arg]  # a partial of our own


def without_mark(body: Body) -> Body:
    """Return `body` without the byte order mark with which a JSON text may begin."""
    if content_type_of(body) == JSON and body.data.startswith(_BYTE_ORDER_MARK):
        return Body(body.data.removeprefix(_BYTE_ORDER_MARK), body.content_type, body.content_encoding)
    return body


def packed(body: Body) -> Body:
    """Compress `body` as `encode` does: where it is large and becomes smaller."""
    return _compressed(body.data, body.content_type)


def unpacked(body: Body, max_size: int = MAX_DECOMPRESSED) -> Body:
    """Decompress `body`; raise SerializationError where that fails or gives more than `max_size` bytes."""
    try:
        return Body(_decompressed(body, max_size), body.content_type)
    except Exception as error:
        raise unreadable("the body cannot be decompressed", error) from None


def is_large(body: Body) -> bool:
    """Whether an event loop should decode `body` in a thread: it is large or compressed."""
    return len(body.data) > LARGE or body.content_encoding not in _PLAIN


def content_type_of(body: Body) -> str:
    """Return the content type of `body`, in lower case and without parameters."""
    return (body.content_type or BYTES).partition(";")[0].strip().lower()


def from_json(text: bytes) -> Any:
    """Decode a JSON text in UTF-8, which may begin with a byte order mark (RFC 8259 §8.1).

    Raises:
        SerializationError: it is not JSON or exceeds the limits.
    """
    return decode(Body(text, JSON))


def decoder(serializers: Collection[str], max_size: int, limits: Limits = DEFAULT) -> Decode:
    """Return `decode` for a receiver that accepts `serializers`, up to `max_size` bytes and within `limits`.

    Raises:
        SettingsError: a serializer does not exist.
    """
    unknown = sorted(set(serializers) - set(SERIALIZERS))
    if unknown:
        raise SettingsError(f"serializer {unknown[0]!r} does not exist: use {', '.join(SERIALIZERS)}")
    allowed = frozenset(SERIALIZERS[name] for name in serializers)
    return functools.partial(decode, allowed=allowed, max_size=max_size, limits=limits)


class Receiver(Protocol):
    """The settings of a receiver: see `crew.settings.Settings`."""

    @property
    def accept(self) -> Collection[str]: ...
    @property
    def max_payload(self) -> int: ...
    @property
    def max_elements(self) -> int: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def max_memory(self) -> int: ...


def decoder_of(settings: Receiver) -> Decode:
    """Return `decode` for a receiver with these settings; raise SettingsError for an unknown serializer."""
    limits = Limits(elements=settings.max_elements, depth=settings.max_depth, memory=settings.max_memory)
    return decoder(settings.accept, settings.max_payload, limits)


def _content_type(payload: Any, serializer: str | None) -> str:
    if serializer is None:
        return BYTES if isinstance(payload, bytes | bytearray | memoryview) else JSON
    try:
        return SERIALIZERS[serializer]
    except (KeyError, TypeError):
        raise ValueError(f"serializer must be one of {', '.join(SERIALIZERS)}, not {brief(serializer)}") from None


def _compressed(data: bytes, content_type: str | None) -> Body:
    if len(data) > COMPRESS_ABOVE:
        smaller = zlib.compress(data, COMPRESSION_LEVEL, wbits=_GZIP_WBITS)
        if len(smaller) < len(data):
            return Body(smaller, content_type, "gzip")
    return Body(data, content_type)


def _decompressed(body: Body, max_size: int) -> bytes:
    if body.content_encoding in _PLAIN:
        if len(body.data) > max_size:
            raise SerializationError(f"the body has {len(body.data)} bytes, more than the {max_size} accepted here")
        return body.data
    if body.content_encoding != "gzip":
        raise SerializationError(f"content encoding {brief(body.content_encoding)} is not accepted here, only gzip")
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
        raise SerializationError("the body is not valid gzip: there are bytes after its end")
    return data


def _listed(allowed: Collection[str]) -> str:
    return ", ".join(sorted(allowed)) or "nothing"


# --- checks: the receiver must get an equal value -------------------------------------------------------------------


def _encode_json(payload: Any) -> bytes:
    return _encode(payload, _JSON_ENCODER.encode, _JSON_CHECKS)


def _encode_msgpack(payload: Any) -> bytes:
    return _encode(payload, _MSGPACK_ENCODER.encode, _MSGPACK_CHECKS)


def _encode(payload: Any, encoded: Callable[[Any], bytes], checks: _Checks) -> bytes:
    data = encoded(payload)  # first, because it fails for a payload that contains itself
    if _check(payload, checks):
        return data
    plain = _plain(payload)  # msgspec ignores overridden methods of a subclass, like the order of an OrderedDict
    _check(plain, checks)
    return encoded(plain)


def _plain(value: Any) -> Any:
    """Return a copy with dict and list in place of their subclasses and of tuples."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in dict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def _encode_text(payload: Any) -> bytes:
    if not isinstance(payload, str):
        raise TypeError(f"{_kind(payload)} is not a str")
    return payload.encode("utf-8")


def _encode_bytes(payload: Any) -> bytes:
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"{_kind(payload)} is not bytes")
    return bytes(payload)


def _check(payload: Any, checks: _Checks) -> bool:
    """Raise TypeError or ValueError for a value in `payload` that would arrive as another value.

    msgspec writes bytes as base64 text, a set as a list, and NaN as null: the caller would notice it only in the task.
    Containers with plain members only are checked by one pass in C.

    Returns:
        False where it stops at a subclass of dict, list or tuple: use `_plain` first.
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
        kinds = set(map(type, members))
        if not (kinds <= _JSON_EXACT or (kinds <= _JSON_EXACT_OR_FLOAT and _are_finite(members))):
            waiting.extend(members)
    return True


def _are_finite(members: Collection[Any]) -> bool:
    return all(map(math.isfinite, [one for one in members if type(one) is float]))


def _check_scalar(value: Any, checks: _Checks) -> None:
    check = checks.get(type(value))
    if check is None:
        raise TypeError(f"{_kind(value)} would not arrive as it is; convert it first, for example with str()")
    check(value)


def _check_json_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            raise TypeError(f"it has the key {brief(key)}, but keys in JSON are strings")


def _check_msgpack_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) not in (str, int, bytes):
            raise TypeError(f"it has the key {brief(key)}, which would not arrive as it is")


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
    """Return the path of the refused value in `payload` and the reason."""
    checks = {JSON: _JSON_CHECKS, MSGPACK: _MSGPACK_CHECKS}.get(content_type)
    if checks is None:  # text and bytes have no members
        return str(error)

    def refusal(value: Any) -> Exception | None:
        try:
            if isinstance(value, dict):  # these messages are clearer than those of msgspec
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

_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    JSON: _encode_json,
    MSGPACK: _encode_msgpack,
    TEXT: _encode_text,
    BYTES: _encode_bytes,
}
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    JSON: lambda data: _JSON_DECODER.decode(data.removeprefix(_BYTE_ORDER_MARK)),
    MSGPACK: large_msgpack.decode_small,
    TEXT: lambda data: data.decode("utf-8"),
    BYTES: bytes,
}
_LARGE_DECODERS: Final[dict[str, Callable[..., Any]]] = {
    JSON: lambda data, *rest, **options: large_json.decode(data.removeprefix(_BYTE_ORDER_MARK), *rest, **options),
    MSGPACK: large_msgpack.decode,
    TEXT: large_msgpack.text,
    BYTES: lambda data, *_, **__: data,
}
_IS_TOO_DEEP: Final[dict[str, Callable[[bytes, int], bool]]] = {
    JSON: large_json.is_too_deep,
    MSGPACK: large_msgpack.is_too_deep,
}

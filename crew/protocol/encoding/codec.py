"""Encodes payloads as bodies and decodes them: content types, compression, and the limits of a receiver.

The sender chooses a serializer, and the receiver has an allow-list. A content type that is not on the list, or a body
that decompresses beyond the limit, is refused before anything is decoded.
"""

import functools
import sys
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

import msgspec

from crew.errors import SerializationError, SettingsError, TooLarge
from crew.protocol.encoding import call_arguments, compression, encoders, large_json, large_msgpack
from crew.protocol.encoding.call_arguments import Arguments
from crew.protocol.encoding.foreign import brief, unreadable
from crew.protocol.encoding.limits import DEFAULT, Budget, Limits, too_deep, without_collection
from crew.protocol.message import Body

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"

Decode = Callable[[Body], Any]

SERIALIZERS: Final = {"json": JSON, "msgpack": MSGPACK, "text": TEXT, "bytes": BYTES}
OF_ARGUMENTS: Final = {JSON: call_arguments.JSON, MSGPACK: call_arguments.MSGPACK}  # content types of arguments
ALLOWED: Final = frozenset([*SERIALIZERS.values(), *OF_ARGUMENTS.values()])

LARGE: Final = 32 * 1024  # bytes: msgspec decodes the worst case within 10 ms
QUICK: Final = 256 * 1024  # bytes: zlib compresses the worst case within about 10 ms
MAX_BODY: Final = 16 * 1024 * 1024  # bytes of an encoded body by default: see Settings.max_message
MAX_DECOMPRESSED: Final = 64 * 1024 * 1024  # bytes by default: see Settings.max_payload
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def encode(
    payload: Any,
    serializer: str | None = None,
    *,
    max_size: int = MAX_BODY,
    compresses: bool = True,
    is_exact: bool = False,
) -> Body:
    """Encode `payload` as a body; return a Body unchanged.

    Arguments have a content type of their own, so that their receiver does not take them for a payload.

    Args:
        serializer: "json", "msgpack", "text" or "bytes"; default: "bytes" for bytes, else "json".
        max_size: limit of the encoded body in bytes.
        compresses: whether a large body is compressed, where a sample of it shrinks or it exceeds `max_size`.
        is_exact: as for `encoders.encode_json`; arguments know it themselves.

    Raises:
        SerializationError: the serializer cannot carry the payload so that the receiver gets an equal value.
        TooLarge: the body has more than `max_size` bytes.
        ValueError: the serializer does not exist.
    """
    if type(payload) is Body:
        return fitting(payload, max_size)
    content_type = _content_type(payload, serializer)
    encoder = _ENCODERS[content_type]
    if type(payload) is Arguments:
        is_exact, content_type = payload.is_exact, _type_of_arguments(content_type)
        payload = payload.members()
    try:
        data = encoder(payload, is_exact=True) if is_exact and encoder in _CHECKING else encoder(payload)
    except encoders.REFUSALS as error:
        raise SerializationError(
            f"{content_type} cannot carry this payload: {encoders.located(error, payload, encoder)}"
        ) from None
    body = Body(data, content_type)
    return compressed(body, max_size) if compresses else fitting(body, max_size)


def encode_for_settings(
    payload: Any, serializer: str | None, *, max_size: int, compresses: bool, is_exact: bool = False
) -> Body:
    """As `encode`, but without `compresses` a large body is compressed if it exceeds `max_size`."""
    body = encode_on_loop(payload, serializer, max_size=max_size, compresses=compresses, is_exact=is_exact)
    return compressed(body, max_size) if body.to_compress else body


def encode_on_loop(
    payload: Any,
    serializer: str | None = None,
    *,
    max_size: int = MAX_BODY,
    compresses: bool = True,
    is_exact: bool = False,
) -> Body:
    """As `encode`, but a body of more than `QUICK` bytes is not compressed yet: see `Body.to_compress`.

    For event loops: they do not encode in a thread, because their code may change the payload meanwhile.

    Args:
        compresses: as for `encode_for_settings`.
        is_exact: as for `encode`.
    """
    if type(payload) is Body:
        return fitting(payload, max_size)
    body = encode(payload, serializer, max_size=sys.maxsize, compresses=False, is_exact=is_exact)
    if not (compresses or len(body.data) > max_size):
        return body
    if len(body.data) > QUICK:
        return Body(body.data, body.content_type, to_compress=True)
    return compressed(body, max_size)


def compressed(body: Body, max_size: int) -> Body:
    """Finish the body of `encode_on_loop`; raise TooLarge where it has more than `max_size` bytes."""
    return fitting(packed(body, max_size), max_size)


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


def packed(body: Body, max_size: int) -> Body:
    """Compress a large `body` where a sample of it shrinks, or where it exceeds `max_size` otherwise."""
    if compression.is_large(body.data) and (len(body.data) > max_size or compression.shrinks(body.data)):
        smaller = compression.compressed(body.data)
        if smaller is not None:
            return Body(smaller, body.content_type, compression.GZIP)
    return Body(body.data, body.content_type)


def unpacked(body: Body, max_size: int = MAX_DECOMPRESSED) -> Body:
    """Decompress `body`; raise SerializationError where that fails or gives more than `max_size` bytes."""
    try:
        return Body(_decompressed(body, max_size), body.content_type)
    except Exception as error:
        raise unreadable("the body cannot be decompressed", error) from None


def is_large(body: Body) -> bool:
    """Whether an event loop should decode `body` in a thread: it is large or compressed."""
    return len(body.data) > LARGE or body.content_encoding not in compression.PLAIN


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
    plain = frozenset(SERIALIZERS[name] for name in serializers)
    allowed = plain | {OF_ARGUMENTS[content_type] for content_type in OF_ARGUMENTS.keys() & plain}
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


def _type_of_arguments(content_type: str) -> str:
    """The content type of arguments that are encoded as `content_type`."""
    try:
        return OF_ARGUMENTS[content_type]
    except KeyError:
        raise ValueError("serializer must be json or msgpack for a call with arguments") from None


def _decompressed(body: Body, max_size: int) -> bytes:
    if body.content_encoding in compression.PLAIN:
        if len(body.data) > max_size:
            raise SerializationError(f"the body has {len(body.data)} bytes, more than the {max_size} accepted here")
        return body.data
    if body.content_encoding != compression.GZIP:
        raise SerializationError(f"content encoding {brief(body.content_encoding)} is not accepted here, only gzip")
    return compression.decompressed(body.data, max_size)


def _listed(allowed: Collection[str]) -> str:
    return ", ".join(sorted(set(allowed) - set(OF_ARGUMENTS.values()))) or "nothing"


_JSON_DECODER: Final = msgspec.json.Decoder()

_CHECKING: Final = (encoders.encode_json, encoders.encode_msgpack)
_ENCODERS: Final[dict[str, Callable[..., bytes]]] = {
    JSON: encoders.encode_json,
    MSGPACK: encoders.encode_msgpack,
    TEXT: encoders.encode_text,
    BYTES: encoders.encode_bytes,
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


def _decoded_arguments(data: bytes) -> Arguments:
    return call_arguments.of_members(large_msgpack.decode_small(data))


def _decoded_large_arguments(data: bytes, *rest: Any, decode: Callable[..., Any], keeps: bool) -> Arguments:
    value = decode(data, *rest, keeps=keeps)
    return call_arguments.of_members(value) if keeps else Arguments()


_DECODERS[call_arguments.JSON] = call_arguments.of_json
_DECODERS[call_arguments.MSGPACK] = _decoded_arguments
for _of_payload, _of_arguments in OF_ARGUMENTS.items():
    _LARGE_DECODERS[_of_arguments] = functools.partial(_decoded_large_arguments, decode=_LARGE_DECODERS[_of_payload])
    _IS_TOO_DEEP[_of_arguments] = _IS_TOO_DEEP[_of_payload]

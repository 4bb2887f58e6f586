"""Message bodies that take much time or memory to decode, by name."""

import struct
from collections.abc import Callable
from typing import Final

from crew.protocol.encoding import codec

Hostile = tuple[str, Callable[[int], bytes]]  # content type, and a function that makes a body of about that many bytes


def array(members: int) -> bytes:
    """The header of a MessagePack array."""
    return b"\xdd" + struct.pack(">I", members)


def map_of(members: int) -> bytes:
    """The header of a MessagePack map."""
    return b"\xdf" + struct.pack(">I", members)


def listed(member: bytes, size: int) -> bytes:
    """A JSON array with equal members."""
    return b"[" + b",".join([member] * (size // (len(member) + 1))) + b"]"


def _int_keys(size: int) -> bytes:
    count = size // 6
    return map_of(count) + b"".join(b"\xce" + struct.pack(">I", key) + b"\x00" for key in range(count))


HOSTILE: Final[dict[str, Hostile]] = {
    "empty arrays": (codec.MSGPACK, lambda size: array(size) + b"\x90" * size),
    "empty maps": (codec.MSGPACK, lambda size: array(size) + b"\x80" * size),
    "nested arrays": (codec.MSGPACK, lambda size: b"\x91" * size),
    "deep arrays": (codec.MSGPACK, lambda size: array(size // 201) + (b"\x91" * 200 + b"\x01") * (size // 201)),
    "small strings": (codec.MSGPACK, lambda size: array(size // 4) + b"\xa3abc" * (size // 4)),
    "a map with int keys": (codec.MSGPACK, _int_keys),
    "an array with a false length": (codec.MSGPACK, lambda size: b"\xdd\xff\xff\xff\xff" * (size // 5)),
    "empty arrays in JSON": (codec.JSON, lambda size: listed(b"[]", size)),
    "empty objects in JSON": (codec.JSON, lambda size: listed(b"{}", size)),
    "nested arrays in JSON": (codec.JSON, lambda size: b"[" * size),
    "nested objects in JSON": (codec.JSON, lambda size: b'{"":' * (size // 4)),
    "small strings in JSON": (codec.JSON, lambda size: listed(b'"a"', size)),
    "huge numbers": (codec.JSON, lambda size: listed(b"1" * 4300, size)),
    "numbers with large exponents": (codec.JSON, lambda size: listed(b"1e308", size)),
    "one number": (codec.JSON, lambda size: b"1" * size),
    "slow floats": (
        codec.JSON,
        lambda size: listed(b"2.225073858507201137605740979670913197593481954e-308", size // 8),
    ),
    "escapes": (codec.JSON, lambda size: b'"' + b"\\u00e9" * (size // 6) + b'"'),
    "backslashes": (codec.JSON, lambda size: b'"' + b"\\" * size),
    "a string without an end": (codec.JSON, lambda size: b'["' + b"a" * size),
    "spaces": (codec.JSON, lambda size: b" " * size + b"1"),
    "commas": (codec.JSON, lambda size: b"[" + b"," * size + b"]"),
    "text beyond ASCII": (codec.TEXT, lambda size: "\U0001f600".encode() * (size // 4)),
}

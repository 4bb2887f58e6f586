"""Encodes payloads so that the receiver gets an equal value; a payload that would arrive as another value is refused.

msgspec writes bytes as base64 text, a set as a list, and NaN as null: the caller would notice it only in the task.
"""

import itertools
import math
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from crew.protocol.encoding.foreign import brief
from crew.protocol.encoding.payload_path import refused_value

REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError)  # errors of msgspec and of the checks below
WIDE_ABOVE: Final = 512  # encoded bytes above which a payload is checked level by level: measured, equal at 300

_Checks = dict[type, Callable[[Any], None]]  # exact type of a value -> check, which raises TypeError or ValueError

_EXACT: Final = frozenset({str, int, bool, type(None)})
_EXACT_OR_FLOAT: Final = _EXACT | {float}
_CONTAINERS: Final = frozenset({dict, list, tuple})
_EXACT_OR_CONTAINER: Final = _EXACT_OR_FLOAT | _CONTAINERS


def encode_json(payload: Any, *, is_exact: bool = False) -> bytes:
    """Encode `payload` as JSON; raise one of `REFUSALS`.

    Args:
        is_exact: it comes from `msgspec.to_builtins`, so that only a number that is not finite may have to be refused.
    """
    return _encode(payload, _JSON_ENCODER.encode, _JSON_CHECKS, is_exact=is_exact)


def encode_msgpack(payload: Any, *, is_exact: bool = False) -> bytes:
    """Encode `payload` as MessagePack; raise one of `REFUSALS`. Arguments as for `encode_json`."""
    return _encode(payload, _MSGPACK_ENCODER.encode, _MSGPACK_CHECKS, is_exact=is_exact)


def encode_text(payload: Any) -> bytes:
    """Encode a str; raise one of `REFUSALS`."""
    if not isinstance(payload, str):
        raise TypeError(f"{_kind(payload)} is not a str")
    return payload.encode("utf-8")


def encode_bytes(payload: Any) -> bytes:
    """Return bytes as they are; raise TypeError."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"{_kind(payload)} is not bytes")
    return bytes(payload)


def located(error: Exception, payload: Any, encode: Callable[[Any], bytes]) -> str:
    """Return the path of the value in `payload` that `encode` has refused with `error`, and the reason."""
    checks = _JSON_CHECKS if encode is encode_json else _MSGPACK_CHECKS if encode is encode_msgpack else None
    if checks is None:  # text and bytes have no members
        return str(error)

    def refusal(value: Any) -> Exception | None:
        try:
            if isinstance(value, dict):  # these messages are clearer than those of msgspec
                checks[dict](value)
            elif not isinstance(value, list | tuple | str | int | None):
                _check_scalar(value, checks)
            encode(value)
        except REFUSALS as error:
            return error
        return None

    path, reason = refused_value(payload, refusal)
    return f"{path}: {reason}"


def _encode(payload: Any, encoded: Callable[[Any], bytes], checks: _Checks, *, is_exact: bool) -> bytes:
    data = encoded(payload)  # first, because it fails for a payload that contains itself
    if is_exact and b"null" not in data:  # the JSON of a number that is not finite
        return data
    if (len(data) > WIDE_ABOVE and is_plain(payload, data)) or _check(payload, checks):
        return data
    plain = _plain(payload)  # msgspec ignores overridden methods of a subclass, like the order of an OrderedDict
    _check(plain, checks)
    return encoded(plain)


def is_plain(payload: Any, encoded: bytes) -> bool:
    """Whether `payload` has only dicts with str keys, lists, tuples, strings, booleans and finite numbers.

    Each of them arrives as an equal value. All containers of one level are checked together, by a few loops in C: two
    to three times as fast as one after another, 0.1 µs a value (benchmarks/PROFILE.md).

    Args:
        encoded: its JSON, which has null in place of a number that is not finite; or its MessagePack.
    """
    level: list[Any] = [payload]
    may_be_infinite = True
    while True:
        types = list(map(type, level))  # each further pass over so many objects misses the CPU's caches
        kinds = set(types)
        if not kinds <= _EXACT_OR_CONTAINER:
            return False
        if may_be_infinite and float in kinds:
            may_be_infinite = b"null" in encoded  # a third of the time of the numbers themselves
            if may_be_infinite and not _are_finite(level):
                return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        if len(kinds) > 1:
            level = [one for one, kind in zip(level, types, strict=True) if kind in _CONTAINERS]
        dicts, arrays = level, list[Any]()
        if not kinds.isdisjoint((list, tuple)):
            dicts = [one for one in level if type(one) is dict]
            arrays = [one for one in level if type(one) is not dict] if dicts else level
        if not set(map(type, itertools.chain.from_iterable(dicts))) <= {str}:
            return False
        level = list(itertools.chain.from_iterable(map(dict.values, dicts)))
        level.extend(itertools.chain.from_iterable(arrays))


def _plain(value: Any) -> Any:
    """Return a copy with dict and list in place of their subclasses and of tuples."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in dict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def _check(payload: Any, checks: _Checks) -> bool:
    """Raise TypeError or ValueError for a value in `payload` that would arrive as another value.

    Containers with plain members only are checked by one pass in C.

    Returns:
        False where it stops at a subclass of dict, list or tuple: use `_plain` first.
    """
    waiting: list[Any] = [payload]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in _EXACT:
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
        if not (kinds <= _EXACT or (kinds <= _EXACT_OR_FLOAT and _are_finite(members))):
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


_JSON_CHECKS: Final[_Checks] = {float: _check_finite, bytes: _refuse_bytes, dict: _check_json_keys}
_MSGPACK_CHECKS: Final[_Checks] = {
    float: _carried,
    bytes: _carried,
    dict: _check_msgpack_keys,
}

_JSON_ENCODER: Final = msgspec.json.Encoder()
_MSGPACK_ENCODER: Final = msgspec.msgpack.Encoder()

"""Checks for values from other programs: their type is checked, and messages quote only their beginning."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from crew.errors import CrewError, SerializationError
from crew.escape import BRIEF as BRIEF
from crew.escape import brief as brief
from crew.escape import shortened as shortened
from crew.protocol.message import Headers

MAX_FOREIGN: Final = 2**53  # limit for received numbers: floats are exact up to it, and it can be sent again
MAX_COUNT: Final = 2**31 - 1  # limit for received counts: the largest integer of a database
MAX_WORKER_ID: Final = 200  # bytes: it is part of queue names and routing keys, which have at most 255
MAX_PLAIN: Final = 255  # characters of a header that names something: no name of crew is longer

BRIEF_REASON: Final = 500  # characters of a decoder's error, which may quote the data

_Value = TypeVar("_Value")


class MalformedMessage(CrewError):
    """A message whose properties are not those of a crew message."""


def text(name: str, value: Any) -> str | None:
    """Return the property `value`, which must be text or None; else raise MalformedMessage."""
    if value is None or type(value) is str:
        return value
    raise MalformedMessage(f"property {name} must be UTF-8 text, not {brief(value)}")


def header(headers: Headers, name: str, kind: type[_Value], default: Any) -> Any:
    """Return the header `name` or `default`; raise MalformedMessage where it has another type than `kind`."""
    value = headers.get(name, default)
    if value is default or type(value) is kind:
        return value
    raise MalformedMessage(f"header {name} must be of type {kind.__name__}, not {brief(value)}")


def worker_id(value: str | None) -> str | None:
    """Return `value`, the id of a worker, which becomes part of a routing key.

    Raises:
        MalformedMessage: it has more than MAX_WORKER_ID bytes.
    """
    if value is not None and len(value) * 4 > MAX_WORKER_ID and len(value.encode(errors="replace")) > MAX_WORKER_ID:
        raise MalformedMessage(f"the id of a worker must have at most {MAX_WORKER_ID} bytes, not {brief(value)}")
    return value


def unreadable(what: str, error: Exception) -> SerializationError:
    """Return the SerializationError for received data that cannot be decoded: `what`, and the reason.

    msgspec raises its own errors, but also RecursionError, UnicodeDecodeError, OverflowError or MemoryError. So a
    decoder of received data catches Exception and raises this error.
    """
    match error:
        case SerializationError():
            return error
        case RecursionError():
            return SerializationError(f"{what}: it is nested too deeply")
        case MemoryError():
            return SerializationError(f"{what}: there is not enough memory for it")
    return SerializationError(f"{what}: {shortened(str(error), BRIEF_REASON)}")


def read(decode: Callable[[bytes], _Value], data: bytes, what: str, *, most: int) -> _Value:
    """Decode received data that crew itself uses: a failure, a list of names.

    Args:
        decode: decoder of msgspec.
        what: the beginning of the error: "a failure".
        most: limit of `data` in bytes.

    Raises:
        SerializationError: it cannot be decoded, or has too many bytes. No other error is raised.
    """
    if len(data) > most:
        raise SerializationError(f"{what} cannot be decoded: it has {len(data)} bytes, more than {most}")
    try:
        return decode(data)
    except Exception as error:
        raise unreadable(f"{what} cannot be decoded", error) from None


def reason_of_death(headers: Headers) -> str:
    """Return why the broker has dead-lettered a message: the last reason, as a delayed retry has an earlier one.

    `x-last-death-reason` exists since RabbitMQ 3.13. Before, the first entry of `x-death` is the last one.
    """
    match headers:
        case {"x-last-death-reason": reason} | {"x-death": [{"reason": reason}, *_]}:
            return shortened(str(reason), BRIEF)
    return shortened(str(headers["x-first-death-reason"]), BRIEF)


def is_plain(value: object) -> bool:
    """Whether a received header may be sent again: some received values cannot be encoded."""
    if isinstance(value, str):
        return value.isprintable() and len(value) <= MAX_PLAIN
    return type(value) is int and -MAX_FOREIGN <= value <= MAX_FOREIGN


def attempt_number(headers: Headers, name: str) -> int:
    """Return the header as a number of attempts; raise MalformedMessage below 1."""
    attempt: int = header(headers, name, int, 1)
    if attempt < 1:
        raise MalformedMessage(f"header {name} must be 1 or more, not {attempt}")
    return min(attempt, MAX_FOREIGN)


def count(headers: Headers, name: str) -> int:
    """Return the header as a number from 0 to `MAX_COUNT`; 0 where it is missing."""
    number: int = header(headers, name, int, 0)
    return max(0, min(number, MAX_COUNT))


def seconds(headers: Headers, name: str) -> float | None:
    """Return the header, which has milliseconds, as seconds."""
    value = header(headers, name, int, None)
    return None if value is None else max(-MAX_FOREIGN, min(value, MAX_FOREIGN)) / 1000

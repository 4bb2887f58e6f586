"""What others have sent: believed only after a look at its type, and repeated only in part."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from crew.errors import CrewError, SerializationError
from crew.escape import BRIEF as BRIEF
from crew.escape import brief as brief
from crew.escape import shortened as shortened
from crew.protocol.message import Headers

MAX_FOREIGN: Final = 2**53  # what others send is read as at most this: floats are exact so far, and it can be sent on
MAX_COUNT: Final = 2**31 - 1  # what others count is read as at most this: a database has it as an integer
MAX_WORKER_ID: Final = 200  # bytes: names of queues and routing keys are made of it, and have 255
MAX_PLAIN: Final = 255  # characters of a header that names something: no name of ours is longer

BRIEF_REASON: Final = 500  # characters of what a decoder says of it, which may quote it

_Value = TypeVar("_Value")


class MalformedMessage(CrewError):
    """A message whose properties are not those of a crew message."""


def text(name: str, value: Any) -> str | None:
    """The property `value` as text."""
    if value is None or type(value) is str:
        return value
    raise MalformedMessage(f"property {name} must be UTF-8 text, not {brief(value)}")


def header(headers: Headers, name: str, kind: type[_Value], default: Any) -> Any:
    """The header `name`, which has to be of that kind where it is there."""
    value = headers.get(name, default)
    if value is default or type(value) is kind:
        return value
    raise MalformedMessage(f"header {name} must be of type {kind.__name__}, not {brief(value)}")


def worker_id(value: str | None) -> str | None:
    """`value` where it can be the id of a worker: a routing key is made of it.

    Raises:
        MalformedMessage: it has more than MAX_WORKER_ID bytes.
    """
    if value is not None and len(value) * 4 > MAX_WORKER_ID and len(value.encode(errors="replace")) > MAX_WORKER_ID:
        raise MalformedMessage(f"the id of a worker has at most {MAX_WORKER_ID} bytes, unlike {brief(value)}")
    return value


def unreadable(what: str, error: Exception) -> SerializationError:
    """The one error for foreign data that cannot be decoded, whatever was raised: `what`, and the reason.

    msgspec raises its own errors, and RecursionError, UnicodeDecodeError, OverflowError or MemoryError beside them. So
    what decodes foreign data catches Exception, and raises this.
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
    """What `decode` makes of foreign data that crew itself has a use for: a failure, a list of names.

    Args:
        decode: of msgspec.
        what: begins the error: "a failure".
        most: bytes that `data` may have.

    Raises:
        SerializationError: it cannot be decoded, or has too many bytes. Nothing else is raised, whatever it is.
    """
    if len(data) > most:
        raise SerializationError(f"{what} cannot be read: it has {len(data)} bytes, more than {most}")
    try:
        return decode(data)
    except Exception as error:
        raise unreadable(f"{what} cannot be read", error) from None


def reason_of_death(headers: Headers) -> str:
    """Why the broker sent a message back: its last death, as a call that was delayed has died of that delay first.

    `x-last-death-reason` came with RabbitMQ 3.13; before, the first entry of `x-death` is the last death.
    """
    match headers:
        case {"x-last-death-reason": reason} | {"x-death": [{"reason": reason}, *_]}:
            return shortened(str(reason), BRIEF)
    return shortened(str(headers["x-first-death-reason"]), BRIEF)


def is_plain(value: object) -> bool:
    """Whether a header of somebody else can be sent on: some of what comes cannot."""
    if isinstance(value, str):
        return value.isprintable() and len(value) <= MAX_PLAIN
    return type(value) is int and -MAX_FOREIGN <= value <= MAX_FOREIGN


def attempt_number(headers: Headers, name: str) -> int:
    """The header as a number of attempts, at least 1."""
    attempt: int = header(headers, name, int, 1)
    if attempt < 1:
        raise MalformedMessage(f"header {name} must be 1 or more, not {attempt}")
    return min(attempt, MAX_FOREIGN)


def count(headers: Headers, name: str) -> int:
    """The header as a number from 0 to `MAX_COUNT`; 0 where it is not there."""
    number: int = header(headers, name, int, 0)
    return max(0, min(number, MAX_COUNT))


def seconds(headers: Headers, name: str) -> float | None:
    """The header as seconds."""
    value = header(headers, name, int, None)
    return None if value is None else max(-MAX_FOREIGN, min(value, MAX_FOREIGN)) / 1000

"""A failure as plain data: an exception's description travels, the exception itself never does."""

import traceback as traceback_module
from types import TracebackType

import msgspec

from crew import errors
from crew.protocol.encoding import foreign

MAX_MESSAGE = 8_192  # characters; longer ones are cut, so that a failure stays cheaper than the call it answers
MAX_TRACEBACK = 65_536
MAX_NAME = 1_024
MAX_ENCODED = 1024 * 1024  # bytes of JSON: the longest that `describe` makes, with every character escaped


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call has no value.

    Attributes:
        type_name: the exception's type, with its module unless that is `builtins`.
        message: what `str()` of the exception gave.
        traceback: text, or "".
        retryable: whether running the call again may help.
        attempts: how often the task has raised, this time included.
        note: what to say of the attempts, or "".
    """

    type_name: str
    message: str = ""
    traceback: str = ""
    retryable: bool = False
    attempts: int = 1
    note: str = ""


_DECODER = msgspec.json.Decoder(Failure)


def encode(failure: Failure) -> bytes:
    """`failure` as JSON."""
    return msgspec.json.encode(failure)


def decode(body: bytes) -> Failure:
    """The failure in `body`, with texts no longer than `describe` gives; one that cannot be read says so instead."""
    try:
        found = foreign.read(_DECODER.decode, body, "the failure", most=MAX_ENCODED)
    except errors.SerializationError as error:
        return Failure(type_name="SerializationError", message=f"the worker's failure could not be read: {error}")
    if len(body) > MAX_MESSAGE:
        found = msgspec.structs.replace(
            found,
            type_name=_clean(found.type_name, MAX_NAME),
            message=_clean(found.message, MAX_MESSAGE),
            traceback=_clean(found.traceback, MAX_TRACEBACK),
            note=_clean(found.note, MAX_MESSAGE),
        )
    return found


def describe(error: BaseException, *, retryable: bool = False, attempts: int = 1, note: str = "") -> Failure:
    """`error` as data. Never raises, even where the exception's own `str()` does.

    Frames of crew itself are left out of the traceback: its reader looks for a line of the task. What crew refuses
    before or after the task runs, a payload that cannot be decoded say, has no such line, and the traceback is its
    message alone.
    """
    return Failure(
        type_name=type_name(error),
        message=_clean(_message(error), MAX_MESSAGE),
        traceback=_clean(_traceback(error), MAX_TRACEBACK),
        retryable=retryable,
        attempts=attempts,
        note=note,
    )


def shortened(stack: str) -> str:
    """`stack` as it may travel."""
    return _clean(stack, MAX_TRACEBACK)


def type_name(error: BaseException) -> str:
    """Name of the error's type as a reader would import it; plain for builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def raised(failure: Failure, *, task: str, id: str) -> errors.TaskFailed:
    """The exception that a caller gets for `failure`."""
    return errors.TaskFailed(
        failure.type_name,
        failure.message,
        traceback=failure.traceback,
        retryable=failure.retryable,
        attempts=failure.attempts,
        note=failure.note,
        task=task,
        id=id,
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        if isinstance(error, errors.CrewError) and not _has_frames_of_others(error.__traceback__):
            return "".join(traceback_module.format_exception_only(error))
        frames = _outside_crew(error.__traceback__)
        told = traceback_module.TracebackException(type(error), error, frames)
        del told.stack[len(told.stack) - _crews_last(frames) :]
        return "".join(told.format())
    except BaseException as broken:
        return f"<its traceback could not be formatted: {type(broken).__name__}>"


def _outside_crew(frames: TracebackType | None) -> TracebackType | None:
    first = frames
    while first is not None and _is_crews(first):
        first = first.tb_next
    return first or frames


def _has_frames_of_others(frames: TracebackType | None) -> bool:
    while frames is not None and _module(frames).startswith("crew."):
        frames = frames.tb_next
    return frames is not None


def _crews_last(frames: TracebackType | None) -> int:
    """How many frames of crew end the traceback: those that raise an interrupt in the task."""
    count, has_others = 0, False
    while frames is not None:
        is_crews = _is_crews(frames)
        has_others |= not is_crews
        count = count + 1 if is_crews else 0
        frames = frames.tb_next
    return count if has_others else 0


def _is_crews(frame: TracebackType) -> bool:
    return _module(frame).startswith("crew.worker.")


def _module(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", ""))


def _clean(text: str, limit: int) -> str:
    """UTF-8-safe text of at most `limit` characters; the middle goes, as both ends of a traceback matter."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n... {len(text) - limit} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

"""A failure as plain data: the description of an exception is sent, never the exception itself."""

import traceback as traceback_module
from types import TracebackType

import msgspec

from crew import errors
from crew.protocol.encoding import foreign

MAX_MESSAGE = 8_192  # characters; longer messages are cut, so that a failure costs less than its call
MAX_TRACEBACK = 65_536
MAX_NAME = 1_024
MAX_ENCODED = 1024 * 1024  # bytes of JSON: the maximum of `describe`, with every character escaped


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a call has no value.

    Attributes:
        type_name: type of the exception, with its module unless that is `builtins`.
        message: `str()` of the exception.
        traceback: the traceback as text, or "".
        retryable: whether a retry of the call may help.
        attempts: number of executions that have raised, including this one.
        note: a remark about the attempts, or "".
        refused_argument: path of the argument for which the task was not run; UNSET: another failure.
    """

    type_name: str
    message: str = ""
    traceback: str = ""
    retryable: bool = False
    attempts: int = 1
    note: str = ""
    refused_argument: str | msgspec.UnsetType = msgspec.UNSET


_DECODER = msgspec.json.Decoder(Failure)


def encode(failure: Failure) -> bytes:
    """Encode `failure` as JSON."""
    return msgspec.json.encode(failure)


def decode(body: bytes) -> Failure:
    """Decode the failure in `body`, with the length limits of `describe`. An invalid body is a SerializationError."""
    try:
        found = foreign.read(_DECODER.decode, body, "a failure", most=MAX_ENCODED)
    except errors.SerializationError as error:
        return Failure(
            type_name="SerializationError", message=f"the failure from the worker cannot be decoded: {error}"
        )
    if len(body) > MAX_MESSAGE:
        found = msgspec.structs.replace(
            found,
            type_name=_clean(found.type_name, MAX_NAME),
            message=_clean(found.message, MAX_MESSAGE),
            traceback=_clean(found.traceback, MAX_TRACEBACK),
            note=_clean(found.note, MAX_MESSAGE),
        )
        if found.refused_argument is not msgspec.UNSET:
            found = msgspec.structs.replace(found, refused_argument=_clean(found.refused_argument, MAX_NAME))
    return found


def describe(error: BaseException, *, retryable: bool = False, attempts: int = 1, note: str = "") -> Failure:
    """Describe `error` as data. Never raises, even if `str()` of the exception raises.

    The traceback contains no frames of crew, as its reader looks for a line of the task. An error before or after the
    task, like a payload that cannot be decoded, has no such line: then the traceback is the message only.
    """
    return Failure(
        type_name=type_name(error),
        message=_clean(_message(error), MAX_MESSAGE),
        traceback=_clean(_traceback(error), MAX_TRACEBACK),
        retryable=retryable,
        attempts=attempts,
        note=note,
    )


def of_refused_arguments(error: errors.InvalidArguments) -> Failure:
    """Describe why a task was not run. If a task itself raises such an error, that is described like any other."""
    named = {"type_name": type(error).__name__, "refused_argument": _clean(error.path, MAX_NAME)}
    return msgspec.structs.replace(describe(error), **named)


def shortened(stack: str) -> str:
    """Cut `stack` to the length limit of a traceback."""
    return _clean(stack, MAX_TRACEBACK)


def type_name(error: BaseException) -> str:
    """Return the name of the error's type with its module; without it for builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def raised(failure: Failure, *, task: str, id: str) -> errors.TaskFailed | errors.InvalidArguments:
    """Return the exception that a caller gets for `failure`."""
    if failure.refused_argument is not msgspec.UNSET:
        return errors.InvalidArguments(failure.message, path=failure.refused_argument, task=task, id=id)
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
        return f"<str() of the exception raised {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        if isinstance(error, errors.CrewError) and not _has_other_frames(error.__traceback__):
            return "".join(traceback_module.format_exception_only(error))
        frames = _outside_crew(error.__traceback__)
        described = traceback_module.TracebackException(type(error), error, frames)
        del described.stack[len(described.stack) - _last_crew_frames(frames) :]
        return "".join(described.format())
    except BaseException as broken:
        return f"<the traceback could not be formatted: {type(broken).__name__}>"


def _outside_crew(frames: TracebackType | None) -> TracebackType | None:
    first = frames
    while first is not None and _is_crew_frame(first):
        first = first.tb_next
    return first or frames


def _has_other_frames(frames: TracebackType | None) -> bool:
    while frames is not None and _module(frames).startswith("crew."):
        frames = frames.tb_next
    return frames is not None


def _last_crew_frames(frames: TracebackType | None) -> int:
    """Return the number of crew frames at the end of the traceback: they raise an interrupt in the task."""
    count, has_others = 0, False
    while frames is not None:
        is_crew = _is_crew_frame(frames)
        has_others |= not is_crew
        count = count + 1 if is_crew else 0
        frames = frames.tb_next
    return count if has_others else 0


def _is_crew_frame(frame: TracebackType) -> bool:
    return _module(frame).startswith("crew.worker.")


def _module(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", ""))


def _clean(text: str, limit: int) -> str:
    """Make `text` valid UTF-8 and cut its middle to `limit` characters: both ends of a traceback matter."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n... {len(text) - limit} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

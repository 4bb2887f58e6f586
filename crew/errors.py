"""All errors of crew, as one tree.

    CrewError
    ├── TaskError               a call ended without a value
    │   ├── TimeoutError        a worker started it, and it did not end in time   (also builtins.TimeoutError)
    │   ├── ExpirationError     no worker started it in time
    │   ├── TaskFailed          the task raised: type_name, message, traceback, retryable, attempts
    │   ├── InvalidArguments    the arguments do not fit the task: it was not run
    │   ├── UnknownTask         no worker has ever served a task with this name
    │   ├── DuplicateCallId     another call with this id is pending, or a job has it
    │   ├── Canceled            the call was canceled
    │   ├── WorkerLost          its worker process died or stopped, and it is not run again
    │   ├── Overloaded          too many calls or bytes are waiting
    │   └── MessageRefused      the broker does not accept its message
    ├── UnknownJob              there is no job with this id
    ├── KeyReused               the idempotency key was used for another job
    ├── ConnectionError         the broker or the job store is unavailable   (also builtins.ConnectionError)
    ├── SerializationError      a payload cannot be encoded or decoded
    │   └── TooLarge            a payload exceeds the maximum message size
    └── SettingsError           a setting is invalid

    SystemExit
    └── Interrupt               raised inside a task that must stop; a BaseException on purpose

All of them can be imported from `crew`. The first line of a docstring is the default message.
"""

import builtins
import inspect
from typing import ClassVar

from crew.deprecated import warn_deprecated
from crew.escape import escaped_lines


class CrewError(Exception):
    """Base of all errors of crew."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class TaskError(CrewError):
    """A call ended without a value.

    Attributes:
        task: name of the task; None: not known.
        id: id of the call; None: not known.
    """

    summary: ClassVar[str] = "The call ended without a value."

    def __init__(self, message: str | None = None, *, task: str | None = None, id: str | None = None) -> None:
        super().__init__(message or self.summary)
        self.task = task
        self.id = id


class TimeoutError(TaskError, builtins.TimeoutError):
    """A worker started the call, but it did not end in time.

    Attributes:
        traceback: where the task was, if its worker runs with `--logging debug`; else "". Python prints it below its
            own traceback, as a note.
    """

    summary = "A worker started the call, but it did not end in time."

    def __init__(
        self, message: str | None = None, *, task: str | None = None, id: str | None = None, traceback: str = ""
    ) -> None:
        super().__init__(message, task=task, id=id)
        self.traceback = traceback
        _add_traceback(self, traceback)


class ExpirationError(TaskError):
    """No worker started the call in time."""

    summary = "No worker started the call in time."


class TaskFailed(TaskError):
    """The task raised an exception.

    Attributes:
        type_name: name of the exception's type, with its module unless that is `builtins`.
        message: `str()` of the exception.
        traceback: traceback in the worker, or "". Python prints it below its own traceback, as a note.
        retryable: whether a retry may help: the task's `retry_on` names the exception.
        attempts: how often the task has raised, including this time; more than 1 only if the task has `retries`.
    """

    summary = "The task raised an exception."

    def __init__(
        self,
        type_name: str,
        message: str = "",
        *,
        traceback: str = "",
        retryable: bool = False,
        attempts: int = 1,
        note: str = "",
        task: str | None = None,
        id: str | None = None,
    ) -> None:
        text = f"{type_name}: {message}" if message else type_name
        super().__init__(f"{text} ({note})" if note else text, task=task, id=id)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        _add_traceback(self, traceback)
        self.retryable = retryable
        self.attempts = attempts


class InvalidArguments(TaskError):
    """The arguments do not fit the parameters of the task, which was not run.

    Attributes:
        path: the argument that was refused, and the way to the value in it: `width`, `image.tags[0]`; "": all of them.
    """

    summary = "The arguments do not fit the parameters of the task, which was not run."

    def __init__(
        self, message: str | None = None, *, task: str | None = None, id: str | None = None, path: str = ""
    ) -> None:
        super().__init__(message, task=task, id=id)
        self.path = path


class UnknownTask(TaskError):
    """No worker has ever served a task with this name."""

    summary = "No worker has ever served a task with this name."


class DuplicateCallId(TaskError):
    """Another call with this id is pending, or a job has this id."""

    summary = "Another call with this id is pending, or a job has this id."


class Canceled(TaskError):
    """The call was canceled.

    Attributes:
        is_abandoned: whether the reason is that its HTTP client has disconnected: no caller needs the result.
    """

    summary = "The call was canceled."

    def __init__(
        self,
        message: str | None = None,
        *,
        task: str | None = None,
        id: str | None = None,
        is_abandoned: bool = False,
    ) -> None:
        super().__init__(message, task=task, id=id)
        self.is_abandoned = is_abandoned


class WorkerLost(TaskError):
    """The worker process of the call died or stopped, and the call is not run again.

    The message says how the process ended, and on which host.
    """

    summary = "The worker process of the call died or stopped, and the call is not run again."


class Overloaded(TaskError):
    """The call was refused, because too many calls or bytes are waiting."""

    summary = "The call was refused, because too many calls or bytes are waiting."


class MessageRefused(TaskError):
    """The broker does not accept the message; a retry does not help.

    The text has the broker's reason, for example a missing permission for a topic, or a policy. A message with too many
    bytes raises `TooLarge`.
    """

    summary = "The broker does not accept the message; a retry does not help."


class UnknownJob(CrewError):
    """There is no job with this id. Records are deleted when their time to live is over."""


class KeyReused(CrewError, ValueError):
    """The idempotency key was used for another job."""


class ConnectionError(CrewError, builtins.ConnectionError):
    """The broker or the job store is unavailable.

    Attributes:
        missing: the part that is unavailable: "broker", "store" (the job store), or "client" (closed or draining).
    """

    def __init__(self, message: str | None = None, *, missing: str = "broker") -> None:
        super().__init__(message or "The broker or the job store is unavailable.")
        self.missing = missing


class SerializationError(CrewError, ValueError):
    """The payload cannot be encoded or decoded."""


class TooLarge(SerializationError):
    """The payload exceeds the maximum message size."""


class SettingsError(CrewError, ValueError):
    """A setting is invalid."""


class Interrupt(SystemExit):
    """Raised inside a task that must stop now.

    It is a SystemExit and not an Exception: `except Exception` lets it pass; `finally` and `except SystemExit` run.

    Attributes:
        reason: "timeout", "canceled" or "drain".
    """

    def __init__(self, reason: str = "timeout") -> None:
        super().__init__(f"interrupted: {reason}")
        self.reason = reason


def _add_traceback(error: TaskError, traceback: str) -> None:
    """Add the worker's traceback, escaped, as a note that Python prints below the traceback of `error`."""
    if traceback:
        task = "the task" if error.task is None else f"task {error.task!r}"
        error.add_note(f"Traceback of {task} in its worker:\n{escaped_lines(traceback.rstrip())}")


def is_abandonment(error: BaseException | None) -> bool:
    """Whether `error`, or each error of a group, is a Canceled because the HTTP client has disconnected."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_abandonment, error.exceptions))
    return isinstance(error, Canceled) and error.is_abandoned


def __getattr__(name: str) -> object:
    """Deprecated names."""
    if name == "DuplicateTaskId":
        warn_deprecated("crew.DuplicateTaskId is now named crew.DuplicateCallId")
        return DuplicateCallId
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

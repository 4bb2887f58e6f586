"""Everything that crew can raise, as one tree.

    CrewError
    ├── TaskError               a call ended without a value
    │   ├── TimeoutError        a worker took it and could not finish   (also builtins.TimeoutError)
    │   ├── ExpirationError     no worker took it in time
    │   ├── TaskFailed          the task raised: type_name, message, traceback, retryable, attempts
    │   ├── UnknownTask         no worker has ever served a task of this name
    │   ├── DuplicateCallId     a call with this id is still in flight
    │   ├── Canceled            somebody cancelled the call
    │   ├── WorkerLost          the process that ran it died or stopped, and it is not run again
    │   ├── Overloaded          refused, because too much is waiting already
    │   └── MessageRefused      the broker does not accept the message
    ├── UnknownJob              there is no job with this id
    ├── KeyReused               an idempotency key that was used for something else
    ├── ConnectionError         the broker, or the job store, is away   (also builtins.ConnectionError)
    ├── SerializationError      a payload that its content type cannot carry
    │   └── TooLarge            a payload of more bytes than a message may have
    └── SettingsError           a setting that cannot work

    SystemExit
    └── Interrupt               raised inside a task that has to stop; a BaseException on purpose

All of them can be imported from `crew`.
"""

import builtins
import inspect
import warnings
from typing import ClassVar

from crew.escape import escaped_lines


class CrewError(Exception):
    """Something that crew could not do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class TaskError(CrewError):
    """A call ended without a value.

    Attributes:
        task: name of the task, where it is known.
        id: id of the call, where it is known.
    """

    summary: ClassVar[str] = "The call ended without a value."

    def __init__(self, message: str | None = None, *, task: str | None = None, id: str | None = None) -> None:
        super().__init__(message or self.summary)
        self.task = task
        self.id = id


class TimeoutError(TaskError, builtins.TimeoutError):
    """A worker took the call and could not finish it in time.

    Attributes:
        traceback: text that tells where the task was, from a worker with `--logging debug`; else "". Python prints it
            below its own, as a note.
    """

    summary = "A worker took the call and could not finish it in time."

    def __init__(
        self, message: str | None = None, *, task: str | None = None, id: str | None = None, traceback: str = ""
    ) -> None:
        super().__init__(message, task=task, id=id)
        self.traceback = traceback
        _add_traceback(self, traceback)


class ExpirationError(TaskError):
    """No worker took the call in time."""

    summary = "No worker took the call in time."


class TaskFailed(TaskError):
    """The task raised an exception.

    Attributes:
        type_name: name of the exception's type, with its module unless that is `builtins`.
        message: what `str()` of the exception gave in the worker.
        traceback: text of the traceback in the worker, or "". Python prints it below its own, as a note.
        retryable: whether running the call again may help: the task's `retry_on` names the exception.
        attempts: how often the task has raised, this time included; more than 1 where it has `retries`.
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
        told = f"{type_name}: {message}" if message else type_name
        super().__init__(f"{told} ({note})" if note else told, task=task, id=id)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        _add_traceback(self, traceback)
        self.retryable = retryable
        self.attempts = attempts


class UnknownTask(TaskError):
    """No worker has ever served a task of this name."""

    summary = "No worker has ever served a task of this name."


class DuplicateCallId(TaskError):
    """A call with this id is still in flight."""

    summary = "A call with this id is still in flight."


class Canceled(TaskError):
    """The call was cancelled.

    Attributes:
        is_abandoned: whether it was because nobody is left to hear an answer: the HTTP client has gone.
    """

    summary = "The call was cancelled."

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
    """The worker process that ran the call died or stopped, and the call is not run again.

    Its message says how the process ended, and on which host.
    """

    summary = "The worker process that ran the call died or stopped, and the call is not run again."


class Overloaded(TaskError):
    """The call was refused, because too much is waiting already."""

    summary = "The call was refused, because too much is waiting already."


class MessageRefused(TaskError):
    """The broker does not accept the message, however often it is published.

    Its text has the broker's reason: a user without permission to write to a topic, say, or a policy of the broker. For
    a message of too many bytes see `TooLarge`.
    """

    summary = "The broker does not accept the message, however often it is published."


class UnknownJob(CrewError):
    """There is no job with this id: there never was, or it was deleted when its time to live was over."""


class KeyReused(CrewError, ValueError):
    """An idempotency key that was used for something else."""


class ConnectionError(CrewError, builtins.ConnectionError):
    """The broker, or the job store, is away.

    Attributes:
        missing: what cannot be used: "broker", "store" (the job store), or "client" (it was closed, or is draining).
    """

    def __init__(self, message: str | None = None, *, missing: str = "broker") -> None:
        super().__init__(message or "The broker, or the job store, is away.")
        self.missing = missing


class SerializationError(CrewError, ValueError):
    """A payload that its content type cannot carry."""


class TooLarge(SerializationError):
    """A payload of more bytes than a message may have."""


class SettingsError(CrewError, ValueError):
    """A setting that cannot work."""


class Interrupt(SystemExit):
    """Raised inside a task that has to stop now.

    It is a SystemExit, and so no Exception: `except Exception` lets it pass, `finally` and `except SystemExit` see it.

    Attributes:
        reason: "timeout", "canceled" or "drain".
    """

    def __init__(self, reason: str = "timeout") -> None:
        super().__init__(f"interrupted: {reason}")
        self.reason = reason


def _add_traceback(error: TaskError, traceback: str) -> None:
    """Have Python print the traceback of the worker, escaped, wherever it prints that of `error`."""
    if traceback:
        whose = "the task" if error.task is None else f"task {error.task!r}"
        error.add_note(f"Traceback of {whose} in its worker:\n{escaped_lines(traceback.rstrip())}")


def is_abandonment(error: BaseException | None) -> bool:
    """Whether `error` says no more than that nobody is left to hear an answer; a group of errors may say so, too."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_abandonment, error.exceptions))
    return isinstance(error, Canceled) and error.is_abandoned


def __getattr__(name: str) -> object:
    """Deprecated names."""
    if name == "DuplicateTaskId":
        warnings.warn("DuplicateTaskId is now named DuplicateCallId", DeprecationWarning, stacklevel=2)
        return DuplicateCallId
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

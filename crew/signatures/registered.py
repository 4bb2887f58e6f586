"""Which tasks a function is: an attribute of the function, as `@Task` returns the function itself."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from crew.signatures.signature import Signature

_TASKS: Final = "__crew_tasks__"


class RegisteredTask(Protocol):
    """The part of `crew.worker.Task` that callers of its function use."""

    name: str
    function: Callable[..., Any]

    @property
    def signature(self) -> Signature:
        """Its parameters and result."""


def add(function: Any, task: RegisteredTask) -> None:
    """Record that `function` is `task`. A function without attributes, as a built-in one, is called by name only."""
    with contextlib.suppress(AttributeError, TypeError):
        setattr(function, _TASKS, (*vars(function).get(_TASKS, ()), task))


def task_of(function: Any) -> RegisteredTask:
    """The task that `function` is.

    Raises:
        ValueError: it is no task, or several ones.
    """
    found: tuple[RegisteredTask, ...] = getattr(function, _TASKS, ())
    found = tuple(task for task in found if task.function is function) or found  # a wrapper has those of what it wraps
    shown = getattr(function, "__qualname__", repr(function))
    if not found:
        raise ValueError(f'{shown} is no task: write @Task("name") above it, or give the name of a task')
    names = {task.name: None for task in found}
    if len(names) > 1:
        raise ValueError(f"{shown} is several tasks: give the name of one of them, {' or '.join(map(repr, names))}")
    return found[-1]


def tasks_of(given: "Iterable[RegisteredTask | Callable[..., Any]]") -> dict[str, RegisteredTask]:
    """Tasks by name, sorted; each is given as itself, or as the function that it is.

    Raises:
        ValueError: as `task_of`.
    """
    found = {task.name: task for task in map(_task_in, given)}
    return dict(sorted(found.items()))


def _task_in(given: "RegisteredTask | Callable[..., Any]") -> RegisteredTask:
    task: RegisteredTask = given if hasattr(given, "signature") else task_of(given)  # type: ignore[assignment]
    return task

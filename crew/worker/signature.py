"""Checks at the start of a worker that each function can be a task: that it can be called, and returns one value."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any


def origin_of(function: Any) -> str:
    """Where `function` is defined, under its decorators: name, file and line.

    Symbolic links in the path are resolved, so that a module that was loaded under two names has the same functions.
    """
    inner = _inner(function)
    named = next((one for one in (function, inner) if hasattr(one, "__qualname__")), type(inner))
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    place = f" ({os.path.realpath(code.co_filename)}:{code.co_firstlineno})" if code else ""
    return f"{named.__qualname__}{place}"


def mistake(task: str, function: Any, handler: type | None) -> str:
    """Why `function` cannot be the task `task`, and what to write instead, in one sentence; "" if it can.

    Args:
        handler: the HandlerClass of which `function` creates an instance.
    """
    if not callable(function):
        return f"task {task!r} is {function!r}, which cannot be called: write @Task above a function"
    if handler is not None:
        return _mistake_of_process(task, handler)
    origin, name = origin_of(function), getattr(_inner(function), "__name__", "task")
    if inspect.isclass(function) and callable(getattr(function, "process", None)):
        return f"task {task!r} is the class {origin}: write {name}.bind({task!r}) below it, instead of @Task above it"
    if _is_method(function):
        return (
            f"task {task!r} is a method, {origin}, and has no instance to be called on: move it out of the class, or "
            "write a HandlerClass with process(self)"
        )
    if kind := _kind_of_generator(function):
        return _yields(task, kind, origin)
    return ""


def _mistake_of_process(task: str, handler: Any) -> str:
    kind = _kind_of_generator(handler.process)
    return _yields(task, kind, origin_of(handler.process)) if kind else ""


def _yields(task: str, kind: str, origin: str) -> str:
    return f"task {task!r} is {kind}: {origin} has to return one value, a list for example, without `yield`"


def takes(function: Callable[..., Any], *arguments: object) -> bool:
    """Whether `function` can be called with `arguments`; True if that is unknown.

    A wrapper may pass other arguments on than it takes, so the wrapped function is not checked.
    """
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError, NameError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _is_method(function: Any) -> bool:
    """Whether it is a function in the body of a class, with `self` or `cls`."""
    if inspect.ismethod(function):
        return False
    inner = inspect.unwrap(function)
    if not inspect.isfunction(inner):
        return False
    scope = inner.__qualname__.rpartition(".")[0].rpartition(".")[2]
    first = next(iter(inner.__code__.co_varnames[: inner.__code__.co_argcount]), "")
    return scope not in ("", "<locals>") and first in ("self", "cls")


def _kind_of_generator(function: Any) -> str:
    """The kind of generator function, or ""; a wrapper may collect what the wrapped function yields."""
    is_function = inspect.isroutine(function) or inspect.isclass(function)
    called = [function] if is_function else [function, type(function).__call__]
    behind = (
        [] if _is_async(function) else [_inner(function)]
    )  # only an `async def` can collect from an async generator
    if any(map(inspect.isasyncgenfunction, called + behind)):
        return "an async generator"
    return "a generator" if any(map(inspect.isgeneratorfunction, called)) else ""


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function)


def _inner(function: Any) -> Any:
    """The function that `function` runs, under decorators and `functools.partial`."""
    while True:
        behind = inspect.unwrap(function)
        behind = behind.func if isinstance(behind, functools.partial) else behind
        if behind is function:
            return function
        function = behind

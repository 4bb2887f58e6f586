"""Reads the parameters of a function, and the types in its annotations."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

_PASSED_ON: Final = [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What callers can pass to a function, and what it returns.

    Attributes:
        listed: the parameters in their order; None: unknown, as of some built-in functions.
        hints: the annotations that were written, by the names of the parameters and "return".
    """

    listed: tuple[inspect.Parameter, ...] | None
    hints: dict[str, Any]


def of_function(function: Callable[..., Any]) -> Parameters:
    """The parameters of `function`, without those that a `functools.partial` has set.

    A wrapper that passes on all that it is given has the parameters of the wrapped function. Another wrapper has its
    own, without types: `functools.wraps` has given it the annotations of the wrapped function.

    Raises:
        NameError: an annotation is text with an unknown name.
        TypeError: an annotation is no type.
    """
    signature, function = _seen_by_callers(function)
    if signature is None:
        return Parameters(listed=None, hints={})
    is_set = function.keywords if isinstance(function, functools.partial) else {}
    listed = tuple(one for one in signature.parameters.values() if one.name not in is_set)
    is_annotated = any(one.annotation is not one.empty for one in listed) or (
        signature.return_annotation is not signature.empty
    )
    if not is_annotated or hasattr(function, "__wrapped__"):
        return Parameters(listed=listed, hints={})
    return Parameters(listed=listed, hints=typing.get_type_hints(_annotated(function), include_extras=True))


def of_method(owner: type, name: str) -> Parameters:
    """The parameters of a method of `owner` when it is called on an instance; raises as `of_function`."""
    found = of_function(getattr(owner, name))
    return msgspec.structs.replace(found, listed=_of_instance(owner, name, found.listed))


def needs_arguments(owner: type, name: str) -> bool:
    """Whether a method of `owner` has parameters for arguments: required ones, or ones with annotations."""
    signature, _ = _seen_by_callers(getattr(owner, name))
    listed = _of_instance(owner, name, None if signature is None else tuple(signature.parameters.values()))
    named = [one for one in listed or () if one.kind not in _PASSED_ON]
    return any(one.default is one.empty or one.annotation is not one.empty for one in named)


def _of_instance(
    owner: type, name: str, listed: tuple[inspect.Parameter, ...] | None
) -> tuple[inspect.Parameter, ...] | None:
    """The parameters without `self`."""
    is_bound = inspect.ismethod(getattr(owner, name)) or isinstance(inspect.getattr_static(owner, name), staticmethod)
    return listed[1:] if listed and not is_bound and listed[0].kind not in _PASSED_ON else listed


def _seen_by_callers(function: Any) -> tuple[inspect.Signature | None, Any]:
    while True:
        try:
            signature = inspect.signature(function, follow_wrapped=False)
        except (ValueError, TypeError):
            return None, function
        passes_on = [one.kind for one in signature.parameters.values()] == _PASSED_ON
        if not (passes_on and hasattr(function, "__wrapped__")):
            return signature, function
        function = function.__wrapped__


def _annotated(function: Any) -> Any:
    """Where the annotations of `function` are written."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function):
        return function.__init__
    return function if inspect.isroutine(function) else type(function).__call__

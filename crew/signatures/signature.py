"""`Signature`: the parameters and the result of a task, by which values are bound, converted and checked.

It is made once for each task, before the first call. A call then costs one step of msgspec for its arguments, and one
for its result.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from crew.errors import InvalidArguments, SerializationError, SettingsError
from crew.protocol.encoding.call_arguments import Arguments
from crew.signatures import annotations, collisions, parameters
from crew.signatures.converter import Converter, PositionalConverter, Refused
from crew.signatures.parameters import Parameters

Bound = tuple[Sequence[Any], Mapping[str, Any]]  # (args, kwargs)

RETURN: Final = "return"  # the name of the result among the annotations of a function
_MORE: Final = "more"
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NO_NAMES: Final[Mapping[str, Any]] = {}


class Signature:
    """The signature of one task.

    Args:
        task: name of the task.
        found: its parameters.

    Attributes:
        task: name of the task.
        listed: all parameters, also `*args` and `**kwargs`.
        hints: the annotations that were written, by the names of the parameters and "return".
        parameters: those with a name, without `*args` and `**kwargs`.
        types: by the names of the parameters; Any where a parameter has no annotation.
        result: type of the value; Any if the function has no annotation for it.
        takes_payload: whether a payload is the argument of its first parameter; else the members of a payload are
            bound to the parameters by name.
        payload_name: that parameter; None: it is one of `*args`, or the parameters are unknown.
        is_untyped: whether it takes any payload as it is, so that there is nothing to bind or to check.

    Raises:
        SettingsError: values cannot be converted by an annotation.
    """

    def __init__(self, task: str, found: Parameters) -> None:
        self.task = task
        self._is_known = found.listed is not None
        self.listed = listed = found.listed or ()
        self.hints = hints = {name: Any if kind is object else kind for name, kind in found.hints.items()}
        self.parameters = tuple(one for one in listed if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
        self.types = {one.name: hints.get(one.name, Any) for one in self.parameters}
        self.result = annotations.result_type(hints.get(RETURN, Any))
        self._positional = tuple(one.name for one in self.parameters if one.kind in _POSITIONAL)
        self._by_name = tuple(one.name for one in self.parameters if one.kind not in _POSITIONAL)
        self._optional = frozenset(one.name for one in self.parameters if one.default is not one.empty)
        self._rest = next((one.name for one in listed if one.kind is one.VAR_POSITIONAL), None)
        self._more = next((one.name for one in listed if one.kind is one.VAR_KEYWORD), None)
        self._rest_type, self._more_type = (hints.get(name or "", Any) for name in (self._rest, self._more))
        self.takes_payload = self._takes_payload(is_annotated=bool(hints.keys() - {RETURN}))
        names = self._positional or (() if self._rest else self._by_name)
        self.payload_name = names[0] if names and self.takes_payload else None
        kind = self._rest_type if self.payload_name is None else self.types[self.payload_name]
        self.is_untyped = self.takes_payload and kind is Any and self.payload_name not in self._by_name
        for name in filter(None, (*self.types, self._rest, self._more)):
            self._check(f"parameter `{name}`", hints.get(name, Any))
        self._check("its result", self.result)
        self._encoded = frozenset(name for name, kind in self.types.items() if _needs_encoding(kind))
        self._encodes_rest = _needs_encoding(self._rest_type)
        self._encodes_more = _needs_encoding(self._more_type)
        self.encodes_result = _needs_encoding(self.result)
        # A value without an annotation beside one that is encoded is not encoded: JSON would not give it back.
        self._is_mixed = bool(self._encoded) and any(self.types[name] is Any for name in self._positional)
        self._as_decoded = frozenset(name for name, kind in self.types.items() if annotations.is_as_decoded(kind))
        kept = tuple(name in self._as_decoded for name in self._positional)
        self._kept = kept if any(kept) else None
        self._least = sum(name not in self._optional for name in self._positional)
        # A required parameter that is keyword-only needs a name in each call.
        self._most = len(self._positional) if self._optional.issuperset(self._by_name) else -1
        self._result_member = None if self.result is Any else Converter({RETURN: self.result})
        written = [kind for name, kind in hints.items() if kind is not Any and name != RETURN]
        self._may_collide = any(map(collisions.are_possible, written))
        self._result_may_collide = self.result is not Any and collisions.are_possible(self.result)
        self._keeps_result = annotations.is_as_decoded(self.result)
        if hints:
            self._prepare()

    @property
    def takes_more(self) -> bool:
        """Whether it takes arguments by other names than those of its parameters: it has `**kwargs`, or is unknown."""
        return self._more is not None or not self._is_known

    @functools.cached_property
    def _members(self) -> Converter:
        return Converter(self.types, self._optional)

    @functools.cached_property
    def _by_position(self) -> PositionalConverter:
        return PositionalConverter([self.types[name] for name in self._positional], self._least)

    @functools.cached_property
    def _rest_member(self) -> Converter:
        return Converter({self._rest or RETURN: list[self._rest_type]})  # type: ignore[name-defined]  # at run time

    @functools.cached_property
    def _more_member(self) -> Converter:
        return Converter({_MORE: self._more_type})

    def __repr__(self) -> str:
        return f"<Signature of task {self.task!r}: {', '.join(self.types) or 'no parameters'}>"

    # --- in the worker ------------------------------------------------------------------------------------------------

    def bind_payload(self, payload: Any) -> Bound:
        """Bind what a call has sent: a payload, or `Arguments`.

        Raises:
            InvalidArguments: it does not fit the parameters.
        """
        if type(payload) is Arguments:
            return self.bind(payload.args, payload.kwargs)
        if self.is_untyped:
            return (payload,), _NO_NAMES
        if self.takes_payload:
            name = self.payload_name
            return self.bind((), {name: payload}) if name in self._by_name else self.bind((payload,), _NO_NAMES)
        if payload is None:
            return self.bind((), _NO_NAMES)
        if type(payload) is not dict:
            raise InvalidArguments(f"task {self.task!r}: {self._not_by_name(payload)}", task=self.task)
        return self.bind((), payload)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
        """Bind arguments to the parameters; the values are converted.

        Raises:
            InvalidArguments: an argument is missing, unknown, given twice, or not of the type of its parameter.
        """
        if not self._is_known:
            return args, kwargs
        if self._may_collide:
            self._check_collisions(args, kwargs)
        if not kwargs and self._least <= len(args) <= self._most:
            values = self._by_position.convert(args)
            if values is not None:
                return self._positional_values(args, values), _NO_NAMES
        try:
            given, rest, more = self._distributed(args, kwargs)
            return self._called_with(given, rest, more)
        except Refused as error:
            raise self._invalid(error) from None

    def encode_result(self, value: Any) -> Any:
        """The value of the task as it travels: as JSON has it, where the annotation says how to read it back.

        Raises:
            SerializationError: it has a value that msgspec cannot encode.
        """
        if not self.encodes_result or isinstance(value, bytes):  # bytes alone travel as they are
            return value
        try:
            return _encoded(value)
        except Exception as error:
            raise SerializationError(f"the value of task {self.task!r} cannot be sent: {error}") from None

    # --- in the client ------------------------------------------------------------------------------------------------

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """The arguments of a call, as they travel; they are checked as the worker will do it.

        Raises:
            InvalidArguments: they do not fit the parameters.
        """
        if not kwargs and self._least <= len(args) <= self._most and not self._is_mixed:
            encoded = self._positional_arguments(args)
            if encoded is not None:
                return Arguments(encoded, is_exact=bool(self._encoded))
        try:
            given, rest, more = self._distributed(args, kwargs)
            for name in self._encoded & given.keys():
                given[name] = self._encode(name, given[name])
            if rest and self._encodes_rest:
                rest = [self._encode(self._rest or "", value) for value in rest]
            if more and self._encodes_more:
                more = {name: self._encode(name, value) for name, value in more.items()}
            if self._is_known:
                self._called_with(given, rest, more)
        except Refused as error:
            raise self._invalid(error) from None
        if not self._is_known:
            return Arguments(args, kwargs)
        by_name = {name: given[name] if name in given else more[name] for name in kwargs} if kwargs else kwargs
        return Arguments([*map(given.__getitem__, self._positional[: len(args)]), *rest], by_name)

    def _positional_arguments(self, args: Sequence[Any]) -> Sequence[Any] | None:
        """The arguments as they travel; None if one does not fit."""
        try:
            encoded: Sequence[Any] = _encoded(args) if self._encoded else args
        except Exception:
            return None
        return None if self._by_position.convert(encoded) is None else encoded

    def read_result(self, value: Any) -> Any:
        """The value of the task, read back by the annotation.

        Raises:
            SerializationError: it has not the type of the annotation.
        """
        if self._result_member is None:
            return value
        try:
            if self._result_may_collide:
                collisions.check(value)
            converted = self._result_member.convert({RETURN: value})[0]
            return value if self._keeps_result else converted
        except collisions.Collisions as error:
            raise SerializationError(f"the value of task {self.task!r} cannot be read: {error}") from None
        except Refused as error:
            path = error.path.removeprefix(RETURN).lstrip(".")
            place = f"`{path}`: " if path else ""
            raise SerializationError(
                f"the value of task {self.task!r} is not what its annotation says: {place}{error.reason}"
            ) from None

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make the plans now, so that no call has to: a worker does this before it forks its processes."""
        for converter in (self._members, self._rest_member, self._more_member):
            converter.prepare()
        self._by_position.convert(())
        if self._result_member is not None:
            self._result_member.prepare()

    def _check(self, place: str, kind: Any) -> None:
        if kind is Any:
            return
        try:
            annotations.check(kind)
        except annotations.CannotServe as error:
            raise SettingsError(
                f"task {self.task!r}: the annotation of {place} cannot be served: {error}; annotate it with what "
                "travels, for example str, int, list, a dataclass or Any, and convert that in the task"
            ) from None

    def _takes_payload(self, *, is_annotated: bool) -> bool:
        """Whether a payload is one argument: the only one, or without annotations the only one that is needed."""
        if not self._is_known:
            return True
        if len(self.parameters) <= 1:
            return bool(self.parameters) or self._rest is not None
        has_place = bool(self._positional) or self._rest is not None
        return not is_annotated and has_place and self.types.keys() <= self._optional | {*self._positional[:1]}

    def _check_collisions(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            collisions.check([*args, *kwargs.values()])
        except collisions.Collisions as error:
            raise InvalidArguments(f"task {self.task!r}: {error}", task=self.task) from None

    def _distributed(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Sequence[Any], Mapping[str, Any]]:
        """The arguments by the names of their parameters, and those for `*args` and `**kwargs`."""
        given = dict(zip(self._positional, args, strict=False))
        rest = args[len(self._positional) :]
        if rest and self._rest is None and self._is_known:
            raise Refused("", f"it takes at most {len(self._positional)} positional arguments, not {len(args)}")
        if not kwargs:
            return given, rest, _NO_NAMES
        if twice := given.keys() & kwargs.keys():
            raise Refused(min(twice), "it is given twice, by position and by name")
        if kwargs.keys() <= self.types.keys():
            return {**given, **kwargs}, rest, _NO_NAMES
        if self._more is None and self._is_known:
            raise self._unknown(next(name for name in kwargs if name not in self.types))
        more = {name: value for name, value in kwargs.items() if name not in self.types}
        return {**given, **{name: kwargs[name] for name in kwargs.keys() - more.keys()}}, rest, more

    def _positional_values(self, args: Sequence[Any], converted: tuple[Any, ...]) -> Sequence[Any]:
        if self._kept is None:
            return converted
        return [given if kept else value for given, value, kept in zip(args, converted, self._kept, strict=False)]

    def _called_with(self, given: Mapping[str, Any], rest: Sequence[Any], more: Mapping[str, Any] = _NO_NAMES) -> Bound:
        """How the function is called with these arguments, which are checked and converted here."""
        converted = dict(zip(self.types, self._members.convert(given), strict=True))
        values = {
            name: given[name] if name in self._as_decoded else converted[name] for name in self.types if name in given
        }
        # From the first one that is left to the default of the function, arguments are passed by name.
        count = next((at for at, name in enumerate(self._positional) if name not in given), len(self._positional))
        args = [values.pop(name) for name in self._positional[:count]]
        if rest:
            args += self._rest_values(rest)
        for name, value in more.items():
            values[name] = self._value_of_more(name, value)
        return args, values

    def _rest_values(self, rest: Sequence[Any]) -> Sequence[Any]:
        (converted,) = self._rest_member.convert({self._rest or RETURN: rest})
        return rest if annotations.is_as_decoded(self._rest_type) else converted

    def _value_of_more(self, name: str, value: Any) -> Any:
        """The value of one of the `**kwargs`."""
        try:
            (converted,) = self._more_member.convert({_MORE: value})
        except Refused as error:
            raise Refused(name + error.path.removeprefix(_MORE), error.reason) from None
        return value if annotations.is_as_decoded(self._more_type) else converted

    def _encode(self, name: str, value: Any) -> Any:
        try:
            return _encoded(value)
        except Exception as error:
            raise Refused(name, str(error)) from None

    def _unknown(self, name: str) -> Refused:
        import difflib  # for errors only

        near = difflib.get_close_matches(name, self.types, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(f'`{one}`' for one in self.types)}"
        return Refused(name, f"there is no such parameter ({hint if self.types else 'it takes none'})")

    def _not_by_name(self, payload: Any) -> str:
        kind = _JSON_NAMES.get(type(payload), type(payload).__name__)
        if not self.types:
            return f"it takes no arguments, so that its payload must be null, not {kind}"
        names = ", ".join(f"`{name}`" for name in self.types)
        return f"it has several parameters, so that its payload must be an object with the members {names}, not {kind}"

    def _invalid(self, error: Refused) -> InvalidArguments:
        where = f"argument `{error.path}`: " if error.path else ""
        return InvalidArguments(f"task {self.task!r}: {where}{error.reason}", task=self.task, path=error.path)


def signature_of(task: str, function: Callable[..., Any]) -> Signature:
    """The signature of the function of a task.

    Raises:
        SettingsError: values cannot be converted by its annotations.
    """
    return _made(task, lambda: parameters.of_function(function))


def signature_of_method(task: str, owner: type, name: str) -> Signature:
    """The signature of a method that is called on an instance of `owner`; raises as `signature_of`."""
    return _made(task, lambda: parameters.of_method(owner, name))


def _made(task: str, read: Callable[[], Parameters]) -> Signature:
    try:
        found = read()
    except NameError as error:
        raise SettingsError(
            f"task {task!r}: an annotation of its function names {error.name!r}, which is not defined where the "
            "function is: define or import it at the top level of the module, and not only under `if TYPE_CHECKING:`"
        ) from None
    except (TypeError, SyntaxError, AttributeError) as error:
        raise SettingsError(f"task {task!r}: an annotation of its function cannot be read: {error}") from None
    return Signature(task, found)


def _needs_encoding(kind: Any) -> bool:
    return kind is not Any and not annotations.is_like_json(kind)


def _encoded(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True, enc_hook=annotations.encode_model)


_JSON_NAMES: Final = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
}

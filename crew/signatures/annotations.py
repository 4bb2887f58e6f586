"""Annotations as types of msgspec: which can be served, which need a conversion, and pydantic models.

https://jcristharif.com/msgspec/supported-types.html
"""

import sys
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, Final, Never, NoReturn, get_args, get_origin

from msgspec import inspect

_UNLIKE_JSON: Final = (  # such values are encoded as another type, and read back by their annotation
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.StructType,
    inspect.DataclassType,
    inspect.NamedTupleType,
)
_NEVER_READ: Final = (inspect.RawType, inspect.ExtType)


class CannotServe(Exception):
    """An annotation for which no value can be checked; the text is the reason, for the end of a sentence."""


def check(annotation: Any) -> None:
    """Raise CannotServe if values cannot be converted to `annotation`."""
    try:
        nodes = list(nodes_of(annotation))
    except (TypeError, NameError) as error:
        raise CannotServe(str(error)) from None
    for node in nodes:
        if isinstance(node, _NEVER_READ):
            raise CannotServe(f"values of the type {type(node).__name__.removesuffix('Type')} do not travel")
        if isinstance(node, inspect.CustomType) and node.cls is not object and not is_pydantic(node.cls):
            raise CannotServe(f"values cannot be converted to `{_name(node.cls)}`")


def nodes_of(annotation: Any) -> Iterator[inspect.Type]:
    """The type of `annotation`, and all types inside it, each once."""
    waiting: list[Any] = [inspect.type_info(annotation)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, inspect.Field):
            waiting.append(node.type)
        elif isinstance(node, inspect.Type) and id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting.extend(getattr(node, name) for name in node.__struct_fields__)


def is_like_json(annotation: Any) -> bool:
    """Whether values of `annotation` are encoded as they are: numbers, text, lists, objects with text as keys."""
    for node in nodes_of(annotation):
        if isinstance(node, _UNLIKE_JSON) or (isinstance(node, inspect.CustomType) and node.cls is not object):
            return False
        if isinstance(node, inspect.DictType) and not isinstance(node.key_type, inspect.StrType | inspect.AnyType):
            return False
    return True


def is_as_decoded(annotation: Any) -> bool:
    """Whether a value that fits `annotation` is passed on as it was decoded, and not converted.

    Conversion would change it: an int would become a float, and the members that a TypedDict does not name would go.
    """
    return annotation is Any or (
        is_like_json(annotation)
        and not any(isinstance(node, inspect.TupleType | inspect.VarTupleType) for node in nodes_of(annotation))
    )


def result_type(annotation: Any) -> Any:
    """The type of a task's value by the annotation of its return: awaited, and Any if the function never returns."""
    if get_origin(annotation) in (Awaitable, Coroutine):
        return get_args(annotation)[-1]
    return Any if annotation in (NoReturn, Never) else annotation


def is_pydantic(kind: Any) -> bool:
    """Whether `kind` is a model of pydantic. A program without pydantic has none, so that this does not import it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def decode_model(kind: type, value: Any) -> Any:
    """The `dec_hook` of msgspec for models of pydantic: the model in `value`.

    Raises:
        ValueError: the value does not fit; in the form of msgspec's own messages.
    """
    if not is_pydantic(kind):
        if isinstance(value, kind):  # `object`
            return value
        raise ValueError(f"Expected `{_name(kind)}`, got `{type(value).__name__}`")
    try:
        return kind.model_validate(value)  # type: ignore[attr-defined]  # as is_pydantic has found
    except sys.modules["pydantic"].ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise ValueError(f"{first['msg']} - at `${place}`" if place else first["msg"]) from None


def encode_model(value: Any) -> Any:
    """The `enc_hook` of msgspec for models of pydantic: the members of the model, as JSON has them."""
    if is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a {type(value).__qualname__} has no form that can be read back")


def schema_of_model(kind: type) -> dict[str, Any]:
    """The `schema_hook` of msgspec for models of pydantic."""
    if is_pydantic(kind):
        schema: dict[str, Any] = kind.model_json_schema()  # type: ignore[attr-defined]  # as is_pydantic has found
        return schema
    return {}


def _name(kind: Any) -> str:
    module = getattr(kind, "__module__", "builtins")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"

"""Converts and checks several values by name in one step of msgspec, whose plan is made once."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from crew.escape import shortened
from crew.signatures.annotations import decode_model

MAX_REASON: Final = 500  # characters of the reason, which may quote the value
_PLACE: Final = re.compile(r"(.*) - at (`key` in )?`\$([^`]*)`", re.DOTALL)
_OF_OBJECT: Final = re.compile(r"Object (contains unknown|missing required) field `([^`]*)`")


class Refused(Exception):
    """A value that has not the type of its annotation.

    Attributes:
        path: `width`, or `image.tags[0]`; "": the whole.
        reason: what is wrong, as the end of a sentence.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"`{path}`: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class Converter:
    """Converts objects with members of known types.

    Args:
        types: the type of each member, by its name.
        optional: members that may be missing.
    """

    def __init__(self, types: Mapping[str, Any], optional: frozenset[str] = frozenset()) -> None:
        missing = msgspec.field(default=None)  # never read: the caller knows what it has given
        fields: list[Any] = [
            (name, kind, missing) if name in optional else (name, kind) for name, kind in types.items()
        ]
        self._kind = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True, eq=False)

    def prepare(self) -> None:
        """Make the plan of msgspec, which the first conversion would make."""
        with contextlib.suppress(Refused):
            self.convert({})

    def convert(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The members in the order of their types, converted; None for one that is not given.

        Raises:
            Refused: a member is missing or unknown, or has another type.
        """
        try:
            made = msgspec.convert(given, self._kind, str_keys=True, dec_hook=decode_model)
        except msgspec.ValidationError as error:
            raise _refused(str(error)) from None
        except RecursionError:
            raise Refused("", "it is nested too deeply") from None
        except Exception as error:  # of a `__post_init__` or a validator of the user
            raise Refused("", shortened(f"{type(error).__name__}: {error}", MAX_REASON)) from None
        return msgspec.structs.astuple(made)


class PositionalConverter:
    """Converts the positional arguments of a call without their names: half the time of `Converter`.

    Args:
        types: of the parameters.
        required: how many of them every call must have.
    """

    def __init__(self, types: Sequence[Any], required: int) -> None:
        missing = msgspec.field(default=None)
        fields: list[Any] = [(f"_{at}", kind, *([missing] if at >= required else [])) for at, kind in enumerate(types)]
        self._kind = msgspec.defstruct("Arguments", fields, array_like=True, eq=False)

    def convert(self, args: Sequence[Any]) -> tuple[Any, ...] | None:
        """The arguments, converted; None if one does not fit: `Converter` knows why."""
        try:
            made = msgspec.convert(args, self._kind, str_keys=True, dec_hook=decode_model)
        except Exception:
            return None
        return msgspec.structs.astuple(made)[: len(args)]


def _refused(message: str) -> Refused:
    """The refusal in a message of msgspec: "Expected `int`, got `str` - at `$.image.width`"."""
    path, of_key = "", ""
    while found := _PLACE.fullmatch(message):  # a model of pydantic inside adds its own place
        message, key, place = found.groups()
        path, of_key = path + place, of_key or ("its key: " if key else "")
    if member := _OF_OBJECT.fullmatch(message):
        kind, name = member.groups()
        return Refused(f"{path}.{name}".lstrip("."), "it is missing" if kind.startswith("missing") else "it is unknown")
    reason = shortened(message[:1].lower() + message[1:], MAX_REASON)
    return Refused(path.lstrip("."), of_key + reason)

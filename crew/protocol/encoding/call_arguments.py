"""`Arguments`: the arguments of a call as one value, which travels with a content type of its own.

A receiver that does not know the content type refuses the call with one sentence. So a worker of an older version never
takes the arguments for a payload.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

JSON: Final = "application/vnd.crew.arguments+json"
MSGPACK: Final = "application/vnd.crew.arguments+msgpack"
_MEMBERS: Final = frozenset({"args", "kwargs"})


class Arguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of a call: `function(*args, **kwargs)`.

    Attributes:
        args: the positional arguments.
        kwargs: the arguments by keyword.
        is_exact: its values come from `msgspec.to_builtins`: see `encoders.encode_json`. It does not travel.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    is_exact: bool = False

    def members(self) -> dict[str, Any]:
        """The value that is encoded: an object with the members `args` and `kwargs`, each only if it is not empty."""
        members: dict[str, Any] = {"args": self.args} if self.args else {}
        return {**members, "kwargs": self.kwargs} if self.kwargs else members


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


_MEMBERS_DECODER: Final = msgspec.json.Decoder(_Members)


def of_json(data: bytes) -> Arguments:
    """The arguments in a small body of JSON; raises msgspec.ValidationError if it has another form."""
    members = _MEMBERS_DECODER.decode(data)
    return Arguments(members.args, members.kwargs)


def of_members(value: Any) -> Arguments:
    """The arguments in a decoded body; raises ValueError if it has another form."""
    if not isinstance(value, dict) or not value.keys() <= _MEMBERS:
        raise ValueError("arguments must be an object with the members args and kwargs")
    args, kwargs = value.get("args", ()), value.get("kwargs", {})
    if not isinstance(args, list | tuple):
        raise ValueError("args must be an array")
    if not isinstance(kwargs, dict) or not set(map(type, kwargs)) <= {str}:
        raise ValueError("kwargs must be an object")
    return Arguments(args, kwargs)

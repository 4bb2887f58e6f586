"""Names of keyword arguments: one error for unknown names, one warning for old ones."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from crew.deprecated import warn_deprecated

UNSET: Final[Any] = object()  # default of an argument whose None is a value


def check_names(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError if a name in `given` is not in `known`: one sentence that names `function` and what it takes."""
    for name in given:
        if name not in known:
            import difflib  # for errors only

            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise TypeError(f"{function}() has no argument {name!r}{hint}: it takes {', '.join(known)}")


def renamed(function: str, old: str, new: str, value: Any) -> Any:
    """Return `value`, which came by the `old` name of an argument, and warn that the name is now `new`."""
    warn_deprecated(f"{function}(): the argument {old!r} is now named {new!r}")
    return value


def with_new_names(function: str, given: dict[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments `given` by their new names, with a warning for each old one.

    Args:
        new_names: by the old ones.
    """
    if new_names.keys().isdisjoint(given):
        return given
    for old in new_names.keys() & given.keys():
        renamed(function, old, new_names[old], None)
    return {new_names.get(name, name): value for name, value in given.items()}

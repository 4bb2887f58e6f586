"""Names of keyword arguments, for public functions that pass theirs on: an error names the function that was called."""

import difflib
from collections.abc import Collection, Iterable


def check_names(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError if a name in `given` is not in `known`: one sentence that names `function` and what it takes."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise TypeError(f"{function}() has no argument {name!r}{hint}: it takes {', '.join(known)}")

"""Finds the value in a payload that a serializer refuses, for the error message.

Only a refused payload is searched, so that an accepted payload costs nothing. The search uses the serializer itself: it
descends into the first member that the serializer refuses on its own.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

MAX_LEVELS: Final = 50  # levels of the path; a longer path does not help
MAX_TIME: Final = 0.25  # seconds; the caller may be an event loop
_KEY_LENGTH: Final = 60  # characters of a key that are shown
_TOO_DEEP: Final = "it is nested too deeply, or contains itself"

Refusal = Callable[[Any], Exception | None]


def refused_value(payload: Any, refusal: Refusal) -> tuple[str, str]:
    """Return path and reason of the first refused value in `payload`: `("$.items[3].when", "a datetime ...")`.

    Args:
        payload: the refused payload.
        refusal: returns the serializer's error for a value, or None where it accepts the value.

    The path ends early after 50 levels, or where the search takes longer than 0.25 s.
    """
    path, value, above = "$", payload, [payload]
    give_up_at = time.monotonic() + MAX_TIME
    error = refusal(payload)
    while len(above) <= MAX_LEVELS:
        members = itertools.takewhile(lambda _: time.monotonic() < give_up_at, _members(value))
        step = next(_refused(members, refusal), None)
        if step is None:
            break
        name, value, error = step
        path += name
        if any(value is one for one in above):
            return path, "it contains itself"
        above.append(value)
    return path, _TOO_DEEP if isinstance(error, RecursionError) else str(error)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path step and the value of each member of a container."""
    if isinstance(value, dict):
        return ((_step(key), member) for key, member in value.items())
    if isinstance(value, list | tuple):
        return ((f"[{index}]", member) for index, member in enumerate(value))
    return iter(())


def _refused(members: Iterable[tuple[str, Any]], refusal: Refusal) -> Iterator[tuple[str, Any, Exception]]:
    for step, member in members:
        if error := refusal(member):
            yield step, member, error


def _step(key: Any) -> str:
    if isinstance(key, str) and key.isidentifier() and len(key) <= _KEY_LENGTH:
        return f".{key}"
    shown = repr(key)
    return f"[{shown if len(shown) <= _KEY_LENGTH else shown[:_KEY_LENGTH] + '...'}]"

"""Parser of the header `Prefer` (RFC 7240): how long a client waits for the response, or `respond-async`.

Unknown preferences are ignored, as RFC 7240 asks for; a header with invalid syntax is refused.
https://www.rfc-editor.org/rfc/rfc7240
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from crew.duration import MAX_DURATION

# Possessive quantifiers keep the time to refuse an invalid header linear in its length.
_SPACE: Final = r"[ \t]*+"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e])*+"'
_VALUE: Final = rf"{_SPACE}={_SPACE}"
_PARAMETER: Final = rf"{_SPACE};{_SPACE}(?:{_TOKEN}(?:{_VALUE}(?:{_TOKEN}|{_QUOTED}))?+)?+"
_MEMBER: Final = re.compile(
    rf"{_SPACE}(?:({_TOKEN})(?:{_VALUE}({_TOKEN}|{_QUOTED}))?+(?:{_PARAMETER})*+)?+{_SPACE}(,|\Z)"
)
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """The preferences of a client.

    Attributes:
        wait: seconds that it waits for the result; None: not set.
        respond_async: it wants a response at once, and fetches the result later.
    """

    wait: int | None = None
    respond_async: bool = False


NONE: Final = Preferences()


def parse(lines: Sequence[str]) -> Preferences:
    """The preferences in the lines of the header. If one is repeated, the first counts.

    Raises:
        ValueError: the syntax is invalid, or `wait` is not a whole number of seconds.
    """
    if not lines:
        return NONE
    found: dict[str, str] = {}
    for name, value in _members(",".join(lines)):
        found.setdefault(name, value)
    wait = _seconds(found["wait"]) if "wait" in found else None
    return Preferences(wait=wait, respond_async="respond-async" in found)


def _members(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        match = _MEMBER.match(text, at)
        if match is None:
            raise ValueError(f"Prefer must be like 'respond-async' or 'wait=10', not {text[:80]!r}")
        if match[1]:
            found.append((match[1].lower(), _unquoted(match[2] or "")))
        if not match[3]:
            return found
        at = match.end()


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _seconds(value: str) -> int:
    if not _SECONDS.fullmatch(value):
        raise ValueError(f"wait in Prefer must be a whole number of seconds, like wait=10, not {value[:80]!r}")
    return min(int(value), int(MAX_DURATION))

"""The header `Prefer`, as RFC 7240 has it: how long a client would wait, and whether it would rather not.

What it does not know is ignored, as a server should; what cannot be read is refused.
https://www.rfc-editor.org/rfc/rfc7240
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from crew.protocol.deadline import MAX_DURATION

# All of them possessive: a header that cannot be read is refused in a time that grows with its length alone.
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
    """What a client would like.

    Attributes:
        wait: seconds that it waits for the whole answer; None: it does not say.
        respond_async: it would rather have an answer at once, and look for the rest later.
    """

    wait: int | None = None
    respond_async: bool = False


NONE: Final = Preferences()


def parse(lines: Sequence[str]) -> Preferences:
    """What the lines of the header say; of two words on one thing the first counts.

    Raises:
        ValueError: they cannot be read, or `wait` has no whole number of seconds.
    """
    if not lines:
        return NONE
    said: dict[str, str] = {}
    for name, value in _members(",".join(lines)):
        said.setdefault(name, value)
    return Preferences(wait=_seconds(said["wait"]) if "wait" in said else None, respond_async="respond-async" in said)


def _members(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        match = _MEMBER.match(text, at)
        if match is None:
            raise ValueError(f"Prefer must read like 'respond-async' or 'wait=10', not {text[:80]!r}")
        if match[1]:
            found.append((match[1].lower(), _unquoted(match[2] or "")))
        if not match[3]:
            return found
        at = match.end()


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _seconds(value: str) -> int:
    if not _SECONDS.fullmatch(value):
        raise ValueError(f"wait of Prefer must be a whole number of seconds, like wait=10, not {value[:80]!r}")
    return min(int(value), int(MAX_DURATION))

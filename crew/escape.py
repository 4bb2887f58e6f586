"""Foreign text made safe for a log and a terminal: the one place that decides what may be printed.

A newline in an id begins a forged log line, ESC and the C1 controls (U+0080 to U+009F) command a terminal, and bidi
controls show text in another order than it has (https://cwe.mitre.org/data/definitions/117.html and CWE-150,
https://trojansource.codes). `str.isprintable` is false for all of these: Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp,
and Zs but the space.
"""

from collections.abc import Callable
from typing import Final

CONTINUED: Final = "  | "  # begins every line of a log record but the first, so that no text can begin a record
_TAB: Final = "    "


def escaped(text: str) -> str:
    r"""`text` in one line: an escape such as `\n`, `\x1b` or `\u202e` in place of each unprintable character."""
    return _replaced(text, _python_escape)


def escaped_lines(text: str) -> str:
    """As `escaped`, with the lines of `text` kept and its tabs as four spaces."""
    if text.isprintable():
        return text
    return "\n".join(escaped(line.replace("\t", _TAB)) for line in text.split("\n"))


def continued(text: str) -> str:
    """As `escaped_lines`, with `CONTINUED` before every line but the first, unless it is there."""
    first, *rest = escaped_lines(text).split("\n")
    return "\n".join([first, *(line if line.startswith(CONTINUED) else CONTINUED + line for line in rest)])


def escaped_json(text: str) -> str:
    r"""`text`, JSON in one line, with `\uXXXX` in place of unprintable characters: the same JSON value."""
    return _replaced(text, _json_escape)


def _replaced(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return text.translate({ord(one): escape(one) for one in set(text) if not one.isprintable()})


def _python_escape(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

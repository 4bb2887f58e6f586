"""Escapes foreign text for logs and terminals: the one place that decides which characters may be printed.

A newline in an id can forge a log line. ESC and the C1 controls (U+0080 to U+009F) control a terminal. Bidi controls
display text in another order. See https://cwe.mitre.org/data/definitions/117.html, CWE-150 and
https://trojansource.codes. `str.isprintable` is false for all of these: Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp,
and Zs except the space.
"""

import reprlib
from collections.abc import Callable
from typing import Final

CONTINUED: Final = "  | "  # prefix of every line of a log record except the first, so that text cannot forge a record
BRIEF: Final = 80  # characters that a message quotes of a foreign value
_TAB: Final = "    "

_brief: Final = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = BRIEF


def escaped(text: str) -> str:
    r"""`text` in one line: each unprintable character becomes an escape such as `\n`, `\x1b` or `\u202e`."""
    return _replaced(text, _python_escape)


def escaped_lines(text: str) -> str:
    """Like `escaped`, but newlines remain, and tabs become four spaces."""
    if text.isprintable():
        return text
    return "\n".join(escaped(line.replace("\t", _TAB)) for line in text.split("\n"))


def continued(text: str) -> str:
    """Like `escaped_lines`, with the prefix `CONTINUED` on every line except the first, unless it is there."""
    first, *rest = escaped_lines(text).split("\n")
    return "\n".join([first, *(line if line.startswith(CONTINUED) else CONTINUED + line for line in rest)])


def escaped_json(text: str) -> str:
    r"""`text`, JSON in one line, with `\uXXXX` for unprintable characters: the same JSON value."""
    return _replaced(text, _json_escape)


def brief(value: object) -> str:
    """The beginning of `repr(value)`, for a message about a foreign value, which may be long. Never raises."""
    if isinstance(value, str | bytes):
        text = repr(value[:BRIEF])
        return text if len(value) <= BRIEF and len(text) <= BRIEF + 10 else f"{text[:BRIEF]}..."
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    try:
        text = _brief.repr(value)
    except Exception as error:  # of a foreign class
        return f"<{type(value).__name__}, whose repr() raised {type(error).__name__}>"
    return shortened(text, BRIEF)


def shortened(text: str, most: int) -> str:
    """`text`, or its beginning where it has more than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def _replaced(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return text.translate({ord(one): escape(one) for one in set(text) if not one.isprintable()})


def _python_escape(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

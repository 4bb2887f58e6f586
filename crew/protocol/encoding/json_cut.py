"""Guesses where a large JSON text can be cut: `large_json.py` decodes it in pieces.

Nothing here knows for certain what is inside a string. The caller decodes the piece, which succeeds only where the cut
was right: the text before a cut is known to end outside of strings, so there is one way to read what follows.

Each guess uses a few searches in C. They take about 3 ns a byte for records, where a regular expression that follows
strings and brackets takes 40.
"""

from typing import Final

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = 200  # brackets or commas that are searched backwards before the guess is given up
_ESCAPE: Final = 12  # bytes of the longest escape: a surrogate pair
_HIGH_SURROGATES: Final = b"89abAB"


def members_end(data: bytes, at: int, until: int) -> int:
    """Guess the last comma before `until` that ends a member of the container whose members begin at `at`.

    Returns:
        The position of the comma, or 0 where none was found.
    """
    window = data[at:until]
    end = len(window)
    if window.count(b'"') & 1:  # it ends inside a string, if no quote is escaped
        end = window.rfind(b'"')
    level = _level(window[:end])
    for _ in range(_STEPS):
        if level <= 0:
            break
        opening = max(window.rfind(b"[", 0, end), window.rfind(b"{", 0, end))
        closing = max(window.rfind(b"]", opening + 1, end), window.rfind(b"}", opening + 1, end))
        level += 1 if closing > opening else -1
        end = max(opening, closing)
    if level:
        return 0
    comma = window.rfind(b",", 0, end)
    for _ in range(_STEPS):
        if comma <= 0:
            return 0
        if not window.count(b'"', comma, end) & 1 and not _level(window[comma:end]):  # not in a string, not in a member
            return at + comma
        comma = window.rfind(b",", 0, comma)
    return 0


def _level(text: bytes) -> int:
    """How many more containers begin in `text` than end."""
    brackets = text.translate(None, _NOT_BRACKETS)
    return 2 * (brackets.count(b"[") + brackets.count(b"{")) - len(brackets)


def string_end(data: bytes, at: int, until: int) -> tuple[int, bool]:
    """Guess where to cut the string whose text begins at `at`.

    Returns:
        The end of the text up to `until`, or 0 where none was found; and whether the string ends there.
    """
    quote = data.find(b'"', at, until)
    if quote >= 0:
        return (0, False) if data[quote - 1 : quote] == b"\\" and quote > at else (quote, True)
    end = until
    if end >= len(data):
        return 0, False
    while end > at and 0x80 <= data[end] < 0xC0:  # inside a UTF-8 character
        end -= 1
    escape = data.rfind(b"\\", max(at, end - _ESCAPE), end)
    if escape >= 0 and _is_odd_backslash(data[at : escape + 1]):
        end = escape
        if data[end - 6 : end - 3].lower() == b"\\ud" and data[end - 3] in _HIGH_SURROGATES:  # half of a pair
            end -= 6
    return (end, False) if end > at else (0, False)


def _is_odd_backslash(text: bytes) -> bool:
    """Whether the backslash at the end of `text` begins an escape: two of them stand for one backslash."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1

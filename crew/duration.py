"""Durations: seconds as a number, or text such as "90", "10m", "1h30m" or "500ms". The only parser of them."""

import re
from typing import Final

from crew.escape import brief

Duration = float | str  # what public functions take

MAX_DURATION: Final = 366 * 86_400.0  # seconds: a year; anything longer is a mistaken unit
EXAMPLES: Final = '"90", "10m", "1h30m" or "500ms"'

_NUMBER: Final = r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}  # seconds; in the order of a text
PATTERN: Final = rf"{_NUMBER}|(?=.)" + "".join(rf"(?:{_NUMBER}{unit})?" for unit in _UNITS)
_TEXT: Final = re.compile(PATTERN)
_PART: Final = re.compile(rf"({_NUMBER})(ms|[dhms]?)")


def parse_duration(name: str, value: object, *, may_be_zero: bool = False, most: float = MAX_DURATION) -> float:
    """Return the duration `value` as float seconds.

    Args:
        name: of the argument, for the error.
        value: seconds, or text.
        may_be_zero: accept 0, too.
        most: the longest duration, in seconds; default: a year.

    Raises:
        ValueError: `value` is not a duration, or out of its range.
    """
    if type(value) is float and 0 < value <= most:  # on the path of each call
        return value
    seconds = seconds_of(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"{name} must be a number of seconds, or text like {EXAMPLES}, not {brief(value)}")
    if not (0 < seconds <= most or (may_be_zero and seconds == 0)):  # NaN is out of range, too
        least = "at least" if may_be_zero else "greater than"
        bound = "" if most == float("inf") else f" and at most {most:.0f}"
        raise ValueError(f"{name} must be {least} 0{bound} seconds, not {brief(value)}")
    return float(seconds)


def seconds_of(text: str) -> float | None:
    """Seconds of a text like "90", "10m", "1h30m", "500ms"; None where it is not a duration."""
    if not _TEXT.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in _PART.findall(text))


def wait_time(timeout: Duration | None) -> float | None:
    """Return how long `result(timeout=...)` waits, in seconds: None has no limit; 0 or less does not wait."""
    return parse_duration("timeout", timeout, may_be_zero=True) if isinstance(timeout, str) else timeout

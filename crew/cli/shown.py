"""Makes foreign text safe for a terminal: it cannot move the cursor or imitate other output."""

import datetime
import math
from typing import Any, Final

from crew.escape import escaped, escaped_lines

MAX_DEPTH: Final = 20  # tables within tables

shown_lines: Final = escaped_lines


def shown(text: str, limit: int | None = None) -> str:
    """`text` in one line, with unprintable characters escaped; cut at `limit` characters."""
    return escaped(text if limit is None or len(text) <= limit else f"{text[: limit - 3]}...")


def plain(value: Any, depth: int = 0) -> Any:
    """`value` with the types of JSON only; bytes and other types become text."""
    if depth > MAX_DEPTH:
        return "..."
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(plain(name)): plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def moment(epoch: int | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; as a number if the calendar does not reach that far."""
    if epoch is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(epoch)

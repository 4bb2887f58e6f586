"""Converts values of a job to JSON: instants, and encoded bodies."""

import base64
import datetime
from typing import Any

import msgspec

from crew.protocol.encoding import codec
from crew.protocol.message import Body


def value(body: Body) -> Any:
    """The decoded value of `body`; bytes, and a body that cannot be decoded, as {"base64": ...}."""
    try:
        decoded = codec.decode(body)
        return _in_base64(decoded) if isinstance(decoded, bytes) else msgspec.to_builtins(decoded, str_keys=True)
    except Exception:  # JSON has no such value, or a foreign worker made it
        return _in_base64(body.data)


def milliseconds(at: float) -> int:
    """Epoch seconds as whole milliseconds since 1970."""
    return round(at * 1000)


def moment(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the millisecond; None if the value is no valid date.

    A foreign worker may have sent microseconds: such a value must not fail a whole page of jobs.
    """
    if at is None:
        return None
    try:
        instant = datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _in_base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}

"""Values of a job as JSON: instants, and what was encoded in a body."""

import base64
import datetime
from typing import Any

import msgspec

from crew.protocol.encoding import codec
from crew.protocol.message import Body


def value(body: Body) -> Any:
    """What is in `body`; bytes, and what cannot be decoded, as {"base64": ...}."""
    try:
        decoded = codec.decode(body)
        return _in_base64(decoded) if isinstance(decoded, bytes) else msgspec.to_builtins(decoded, str_keys=True)
    except Exception:  # a value that JSON does not have, or one that a foreign worker has made
        return _in_base64(body.data)


def milliseconds(at: float) -> int:
    """Epoch seconds as whole milliseconds since 1970."""
    return round(at * 1000)


def moment(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the millisecond; None where no calendar has it.

    A foreign worker may have told of its run in microseconds: that is no reason not to show a page of jobs.
    """
    if at is None:
        return None
    try:
        told = datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return told.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _in_base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}

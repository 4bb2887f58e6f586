"""A parked message in the queue `crew.parked`, and its properties when it is replayed.

The message may come from any program. So no value is trusted here, and nothing raises.
"""

import hashlib
from typing import Any

import msgspec

from crew.protocol import properties, user_headers
from crew.protocol.deadline import broker_ttl_ms
from crew.protocol.message import Body, new_id
from crew.protocol.properties import Properties


class ParkedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was parked after repeated crashes or an error.

    Attributes:
        id: id of the call, with escapes for unprintable characters; a digest of a message without an id.
        task: the task of its queue, or None.
        parked_at: epoch seconds, or None.
        reason: why it was parked.
        host: host of the last process that ran it and died, or None.
        exit_status: exit status of that process, or None.
        properties: all properties of the message.
        body: the encoded payload.
    """

    id: str
    task: str | None
    parked_at: int | None
    reason: str
    host: str | None
    exit_status: str | None
    properties: Properties
    body: Body


def to_parked(given: Properties, data: bytes) -> ParkedMessage:
    """Decode a message from the queue of parked messages."""
    headers = given.headers or {}
    return ParkedMessage(
        id=_printable(_text(given.correlation_id) or _text(given.message_id) or _digest(given, data)),
        task=_text(headers.get(properties.TASK)),
        parked_at=given.timestamp,
        reason=_text(headers.get(properties.REASON)) or "",
        host=_text(headers.get(properties.HOST)),
        exit_status=_text(headers.get(properties.EXIT_STATUS)),
        properties=given,
        body=Body(data, _text(given.content_type), _text(given.content_encoding)),
    )


def of_replay(parked: ParkedMessage, *, now: float, expiration: float | None = None) -> Properties:
    """Return the properties with which `parked` is published to its task again, at `now` (epoch seconds).

    It is the same call, with its id, payload, priority, timeout and the caller's own headers, as a first attempt. It
    gets no reply: the caller got one when the message was parked.

    Args:
        expiration: seconds in which it must start; None for no limit.
    """
    given = parked.properties
    headers = {properties.TASK: parked.task, **user_headers.sendable(given.headers or {})}
    if type(timeout := (given.headers or {}).get(properties.TIMEOUT)) is int:
        headers[properties.TIMEOUT] = timeout
    if expiration is not None:
        headers[properties.DEADLINE] = round((now + expiration) * 1000)
    return Properties(
        content_type=given.content_type,
        content_encoding=given.content_encoding,
        correlation_id=_own_id(given) or new_id(),
        type="call",
        message_id=new_id(),
        timestamp=int(now),
        priority=given.priority,
        expiration=None if expiration is None else str(broker_ttl_ms(expiration)),
        delivery_mode=2,
        app_id=properties.APP_ID,
        headers=headers,
    )


def _own_id(given: Properties) -> str | None:
    """Return the id with which a worker would run the call, or None."""
    id = given.correlation_id or given.message_id
    return id if isinstance(id, str) else None


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _text(value: Any) -> str | None:
    """Convert `value` to text: a property that is not UTF-8 is bytes, and a header may have any type."""
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _digest(given: Properties, data: bytes) -> str:
    known = repr((given.timestamp, given.type, given.headers)).encode()
    return f"digest-{hashlib.blake2b(known + data, digest_size=8).hexdigest()}"

"""A message that was given up, as it stands in `crew.parked`; and what is published when it is to run after all.

Anybody may have sent what failed, so nothing here is believed, and nothing raises.
"""

import hashlib
from typing import Any

import msgspec

from crew.protocol import properties, user_headers
from crew.protocol.deadline import broker_ttl_ms
from crew.protocol.message import Body, new_id
from crew.protocol.properties import Properties


class ParkedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up.

    Attributes:
        id: of the call, with escapes for what cannot be printed; of a message without one, a digest of it.
        task: whose queue it came over, or None.
        parked_at: epoch seconds, or None.
        reason: why it was given up.
        host: where the last process died that ran it, or None.
        exit_status: how that process died, or None.
        properties: all that it came with.
        body: the payload as it was sent.
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
    """The message that was parked with these properties."""
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
    """The properties with which `parked` is published to its task once more, at `now` (epoch seconds).

    It is the same call, with its id, payload, priority, timeout and the caller's own headers, as a first attempt. Its
    reply goes nowhere: the caller was answered when it was parked.

    Args:
        expiration: seconds until it is not started any longer; None: it is, whenever a worker takes it.
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
    """The id with which a worker would run it, where it has one that is text."""
    id = given.correlation_id or given.message_id
    return id if isinstance(id, str) else None


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _text(value: Any) -> str | None:
    """`value` as text: a property that is no UTF-8 comes as bytes, a header may have any type."""
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _digest(given: Properties, data: bytes) -> str:
    known = repr((given.timestamp, given.type, given.headers)).encode(errors="backslashreplace")
    return f"digest-{hashlib.blake2b(known + data, digest_size=8).hexdigest()}"

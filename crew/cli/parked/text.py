"""Formats a parked message as text: a line, a line of JSON, or a page."""

import json
from typing import Any, Final

import msgspec

from crew.cli.shown import moment, plain, shown, shown_lines
from crew.errors import SerializationError
from crew.protocol.encoding import codec
from crew.protocol.encoding.call_arguments import Arguments
from crew.protocol.parked_message import ParkedMessage

REASON_IN_LINE: Final = 120  # characters; the page has the rest
PAYLOAD_ON_PAGE: Final = 4_000  # characters; `crew parked show --raw` has the rest
DECODED_ON_PAGE: Final = 1024 * 1024  # bytes; a larger payload is not decoded: its first bytes are shown
VALUE_ON_PAGE: Final = 400  # characters of a property or header
NOTHING: Final = "-"


def as_line(message: ParkedMessage) -> str:
    """Id, task, time, exit status, host and reason in columns; long values shift the columns."""
    columns = (
        f"{message.id:<32}",
        f"{shown(message.task or NOTHING):<24}",
        moment(message.parked_at) or NOTHING,
        f"{shown(message.exit_status or NOTHING, 20):<8}",
        f"{shown(message.host or NOTHING, 64):<12}",
        shown(message.reason or NOTHING, REASON_IN_LINE),
    )
    return "  ".join(columns)


def as_json(message: ParkedMessage) -> str:
    """The message as one line of ASCII JSON, without the payload."""
    values = {
        "id": message.id,
        "task": message.task,
        "parked": moment(message.parked_at),
        "reason": message.reason,
        "host": message.host,
        "exit_status": message.exit_status,
        "properties": _properties(message),
        "headers": message.properties.headers or {},
        "bytes": len(message.body.data),
    }
    return json.dumps(plain(values))


def as_page(message: ParkedMessage) -> str:
    """The whole message; the payload is decoded if possible."""
    payload = _payload(message)
    lines = [
        f"id           {message.id}",
        f"task         {shown(message.task or NOTHING)}",
        f"parked       {moment(message.parked_at) or NOTHING}",
        f"reason       {shown(message.reason or NOTHING)}",
        f"host         {shown(message.host or NOTHING)}",
        f"exit status  {shown(message.exit_status or NOTHING)}",
        *_section("properties", _properties(message)),
        *_section("headers", message.properties.headers or {}),
        f"payload, {len(message.body.data)} bytes as it was sent",
        shown_lines(payload[:PAYLOAD_ON_PAGE]),
    ]
    if len(payload) > PAYLOAD_ON_PAGE:
        lines.append(f"... and {len(payload) - PAYLOAD_ON_PAGE} more characters: --raw prints all of it")
    return "\n".join(lines)


def _section(title: str, values: dict[Any, Any]) -> list[str]:
    return [title, *(f"  {_value_text(name)}: {_value_text(value)}" for name, value in values.items())]


def _value_text(value: Any) -> str:
    simple = plain(value)
    return shown(simple if isinstance(simple, str) else json.dumps(simple), VALUE_ON_PAGE)


def _properties(message: ParkedMessage) -> dict[str, Any]:
    given = msgspec.structs.asdict(message.properties)
    return {name: value for name, value in given.items() if value is not None and name != "headers"}


def _payload(message: ParkedMessage) -> str:
    try:
        payload = codec.decode(message.body, max_size=DECODED_ON_PAGE)
    except SerializationError as error:
        return f"({error})\n{message.body.data[: PAYLOAD_ON_PAGE + 1]!r}"
    if isinstance(payload, Arguments):
        payload = payload.members()
    if isinstance(payload, str):
        return payload
    if isinstance(payload, bytes):
        return repr(payload)
    return json.dumps(plain(payload), indent=2, ensure_ascii=False)

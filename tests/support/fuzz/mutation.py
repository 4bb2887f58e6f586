"""Hypothesis strategies for changed copies of recorded messages, as a careless or hostile sender might send them."""

import gzip
from typing import Any

import msgspec
from hypothesis import strategies as st
from pika import data

from crew.protocol import topology
from tests.support import fuzzing
from tests.support.fuzz.recording import Recorded
from tests.support.fuzzing import Message

FLAGS = {  # bit of each property in the flags of a content header: AMQP 0-9-1, 4.2.6.1
    "content_type": 15,
    "content_encoding": 14,
    "headers": 13,
    "delivery_mode": 12,
    "priority": 11,
    "correlation_id": 10,
    "reply_to": 9,
    "expiration": 8,
    "message_id": 7,
    "timestamp": 6,
    "type": 5,
    "app_id": 3,
}
MANY = 60_000  # elements in a hostile body of some 60 KB
DEEP = 30_000
HOSTILE = [
    b"[" + b"[]," * MANY + b"[]]",
    b"[" * DEEP + b"]" * DEEP,
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'"' + b"\\u0000" * 9_999 + b'"',
    b'"' + b"\\ud800" * 999 + b'"',
    b"1" * MANY,
    b"1e999",
    b"-" + b"0" * MANY,
    b"NaN",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe\x00",
    b"\xdc\xff\xff" + b"\x90" * 0xFFFF,
    b"\x91" * DEEP + b"\xc0",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc7\x05\x63hello",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xa1\xff",
    b"\x81\x90\xc0",
    gzip.compress(b"[" + b"[]," * 1_000_000 + b"[]]", mtime=0),
    gzip.compress(b"\x00" * 70_000_000, 9, mtime=0),
    gzip.compress(b"{}", mtime=0) * 3,
    gzip.compress(b"{}", mtime=0)[:-3],
]
TEXTS = [
    "",
    "\x00",
    "\n2026-01-01 INFO forged line",
    "\x1b[2J\x1b]0;x\x07",
    "\u202ereversed",
    "\x9b31m",
    "%s%n",
    "x" * 255,
    "../..",
    "😀" * 60,
]
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(TEXTS), st.text(max_size=40)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
QUEUES_OF_TASKS = (topology.TASK_PREFIX, topology.AGAIN_PREFIX, topology.HOLDING_PREFIX)
NAMES = [name for name in fuzzing.CREW if name.startswith("crew-")]


def mutated(seeds: list[Recorded], queues: list[str], ids: list[str]) -> st.SearchStrategy[Message]:
    """Changed copies of `seeds`: exchange and routing key, content header, and body.

    In each copy something that a signature covers has changed.

    Args:
        queues: names of queues; a copy may go to another queue than its seed.
        ids: of existing calls and jobs.
    """
    keys = sorted({(seed.exchange, seed.key) for seed in seeds}) + [("", queue) for queue in queues]

    @st.composite
    def copy(draw: st.DrawFn) -> Message:
        seed = draw(st.sampled_from(seeds))
        where = (seed.exchange, seed.key)
        target = draw(st.sampled_from(keys)) if draw(st.integers(0, 4)) == 0 else where
        properties = dict(seed.properties)
        raw: dict[str, bytes] = {}
        body = seed.body
        for _ in range(draw(st.integers(1, 3))):
            match draw(st.sampled_from(["body", "body", "header", "header", "property", "value", "text"])):
                case "body":
                    body = draw(bodies(body))
                case "value":
                    body = draw(JSON_VALUES.map(_json))
                case "header":
                    properties["headers"] = draw(headers(properties.get("headers") or {}, raw))
                case "text":
                    name = draw(st.sampled_from(["correlation_id", "reply_to", "message_id", "type", "app_id"]))
                    properties[name] = draw(st.sampled_from(TEXTS + ids))
                case "property":
                    properties.pop(draw(st.sampled_from(list(FLAGS))), None)
        headers_alike = not raw or _same_values(raw, seed.properties.get("headers") or {})
        if headers_alike and _covered(target, properties, body) == _covered(where, seed.properties, seed.body):
            body += b" "
        return target, _content_header(properties, raw), body

    return copy()


def bodies(body: bytes) -> st.SearchStrategy[bytes]:
    """Changed copies of `body`, and hostile bodies."""
    place = st.integers(0, max(len(body), 1))
    return st.one_of(
        st.sampled_from(HOSTILE),
        st.tuples(place, st.binary(min_size=1, max_size=4)).map(lambda cut: body[: cut[0]] + cut[1] + body[cut[0] :]),
        st.tuples(place, st.binary(min_size=1, max_size=4)).map(
            lambda cut: body[: cut[0]] + cut[1] + body[cut[0] + len(cut[1]) :]
        ),
        place.map(lambda cut: body[:cut]),
        st.tuples(place, place).map(lambda cut: body[: min(cut)] + body[max(cut) :]),
        st.integers(2, 9).map(lambda times: body * times),
        st.just(gzip.compress(body, mtime=0)),
    )


def headers(table: dict[str, Any], raw: dict[str, bytes]) -> st.SearchStrategy[dict[str, Any]]:
    """Changed copies of `table`; a value that pika cannot write goes to `raw`, as bytes of the frame."""

    @st.composite
    def copy(draw: st.DrawFn) -> dict[str, Any]:
        name = draw(st.sampled_from([*table, *NAMES])) if table else draw(st.sampled_from(NAMES))
        changed = {key: value for key, value in table.items() if key != name}
        match draw(st.sampled_from(["drop", "number", "text", "foreign"])):
            case "number":
                changed[name] = draw(fuzzing.integers)
            case "text":
                changed[name] = draw(st.sampled_from(TEXTS))
            case "foreign":
                raw[name] = draw(fuzzing.values)
        return changed

    return copy()


def _covered(target: tuple[str, str], properties: dict[str, Any], body: bytes) -> tuple[object, ...]:
    """What a signature covers: no exchange; and a call may move from one queue of its task to another."""
    _, key = target
    if key.startswith(QUEUES_OF_TASKS):
        key = topology.task_queue_name(topology.task_of_queue(key))
    return key, _signed(properties), body


def _same_values(raw: dict[str, bytes], headers: dict[str, Any]) -> bool:
    """Whether each of these encoded headers decodes to its value in `headers`."""
    try:
        return all(name in headers and data.decode_value(one, 0)[0] == headers[name] for name, one in raw.items())
    except Exception:  # many are malformed
        return False


def _signed(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties that a signature covers, without those that a broker may change; see `crew.protocol.signing`."""
    return {name: value for name, value in properties.items() if name not in ("expiration", "timestamp", "app_id")}


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _content_header(properties: dict[str, Any], raw: dict[str, bytes]) -> bytes:
    """Flags and properties of a content header; `raw` has additional headers."""
    flags, parts = 0, []
    if raw:
        properties = {**properties, "headers": properties.get("headers") or {}}
    for name, bit in FLAGS.items():
        if name in properties:
            flags |= 1 << bit
            parts.append(_part(name, properties[name], raw))
    return flags.to_bytes(2, "big") + b"".join(parts)


def _part(name: str, value: Any, raw: dict[str, bytes]) -> bytes:
    match name:
        case "headers":
            table = b"".join(_short(key) + _value(one) for key, one in value.items() if key not in raw)
            table += b"".join(_short(key) + one for key, one in raw.items())
            return len(table).to_bytes(4, "big") + table
        case "delivery_mode" | "priority":
            return bytes([value])
        case "timestamp":
            return int(value if isinstance(value, int) else value.timestamp()).to_bytes(8, "big")
        case _:
            return _short(str(value))


def _short(text: str) -> bytes:
    encoded = text.encode(errors="surrogatepass")[:255]
    return bytes([len(encoded)]) + encoded


def _value(value: Any) -> bytes:
    pieces: list[bytes] = []
    data.encode_value(pieces, value)
    return b"".join(pieces)

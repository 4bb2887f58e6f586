"""Hypothesis strategies for messages of careless, broken or hostile senders: raw bytes of content headers."""

import gzip
import struct

from hypothesis import strategies as st

SHORT = st.binary(max_size=255)
TEXT = st.text(max_size=60).map(lambda text: text.encode()[:255])
HUGE = 100_000  # bytes: near the 128 KiB of a frame
CREW = [
    *("crew-deadline", "crew-timeout", "crew-attempt", "crew-task", "crew-worker", "crew-outcome", "crew-reason"),
    *("crew-client", "crew-unreadable", "crew-delay", "crew-host", "crew-exit-status", "traceparent"),
    *("x-death", "x-first-death-reason", "x-last-death-reason", "x-first-death-queue", "x-delivery-count"),
]
CONTENT_TYPES = [f"application/{kind}" for kind in ("json", "msgpack", "octet-stream", "x-pickle")] + ["text/plain"]
OUTCOMES = [b"started", b"returned", b"raised", b"timed_out", b"expired", b"canceled", b"unknown_task", b"worker_lost"]
REASONS = [b"expired", b"rejected", b"maxlen", b"delivery_limit", b"canceled", b"timeout"]
NUMBERS = [0, 1, -1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 1_700_000_000_000, 4_000_000_000_000]

integers = st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**63 - 1)


def _long(kind: bytes, raw: bytes) -> bytes:
    return kind + struct.pack(">I", len(raw)) + raw


scalars = st.one_of(
    integers.map(lambda n: b"l" + struct.pack(">q", n)),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"I" + struct.pack(">i", n)),
    st.integers(0, 255).map(lambda n: b"B" + bytes([n])),
    st.floats().map(lambda x: b"d" + struct.pack(">d", x)),
    st.floats(width=32).map(lambda x: b"f" + struct.pack(">f", x)),
    st.booleans().map(lambda x: b"t" + bytes([x])),
    st.integers(0, 2**64 - 1).map(lambda n: b"T" + struct.pack(">Q", n)),
    st.tuples(st.integers(0, 255), st.integers(-(2**31), 2**31 - 1)).map(lambda d: b"D" + struct.pack(">Bi", *d)),
    st.just(b"V"),
    st.one_of(TEXT, SHORT, st.sampled_from(OUTCOMES + REASONS)).map(lambda raw: _long(b"S", raw)),
    SHORT.map(lambda raw: _long(b"x", raw)),
)
names = st.one_of(st.sampled_from(CREW).map(str.encode), TEXT, SHORT)


def _table(entries: list[tuple[bytes, bytes]]) -> bytes:
    raw = b"".join(bytes([len(name)]) + name + value for name, value in entries)
    return struct.pack(">I", len(raw)) + raw


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda members: _long(b"A", b"".join(members))),
        st.lists(st.tuples(names, inner), max_size=3).map(lambda entries: b"F" + _table(entries)),
    ),
    max_leaves=6,
)


def _nested(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"F" + _table([(b"a", value)])
    return value


deaths = st.sampled_from(REASONS).map(
    lambda why: _long(b"A", b"F" + _table([(b"reason", _long(b"S", why)), (b"count", b"l" + struct.pack(">q", -5))]))
)
tables = st.one_of(
    st.lists(st.tuples(names, values), max_size=5).map(_table),
    st.lists(st.tuples(names, st.one_of(values, deaths)), max_size=3).map(_table),
    st.integers(0, HUGE).map(lambda size: _table([(b"huge", _long(b"S", b"x" * size))])),
    st.integers(1, 2_000).map(lambda depth: _table([(b"deep", _nested(depth))])),
)
no_tables = st.binary(max_size=40).map(lambda raw: struct.pack(">I", len(raw)) + raw)


def _header(parts: dict[int, bytes]) -> bytes:
    return struct.pack(">H", sum(parts)) + b"".join(parts[flag] for flag in sorted(parts, reverse=True))


def _short(raw: bytes) -> bytes:
    return bytes([len(raw)]) + raw


def headers(ids: list[str], reply_to: list[str], *, is_sound: bool) -> st.SearchStrategy[bytes]:
    """Raw properties of a content header: any of them, with any value, including the given values."""
    id = st.one_of(st.sampled_from(ids).map(str.encode), SHORT)
    parts: dict[int, st.SearchStrategy[bytes]] = {
        1 << 15: st.one_of(st.sampled_from(CONTENT_TYPES).map(str.encode), SHORT).map(_short),
        1 << 14: st.sampled_from([b"gzip", b"br", b"identity", b"", b"\xff"]).map(_short),
        1 << 13: tables if is_sound else no_tables,
        1 << 12: st.sampled_from([b"\x01", b"\x02"] if is_sound else [b"\x00", b"\xff"]),
        1 << 11: st.binary(min_size=1, max_size=1),
        1 << 10: id.map(_short),
        1 << 9: st.one_of(st.sampled_from(reply_to).map(str.encode), SHORT).map(_short),
        1 << 8: st.sampled_from([b"0", b"1", b"60000"]).map(_short),
        1 << 7: id.map(_short),
        1 << 6: st.integers(0, 2**64 - 1).map(lambda n: struct.pack(">Q", n)),
        1 << 5: st.one_of(st.sampled_from([b"call", b"reply", b"event", b"control"]), SHORT).map(_short),
        1 << 3: SHORT.map(_short),
    }
    return st.fixed_dictionaries({}, optional=parts).map(_header)


bodies: st.SearchStrategy[bytes] = st.one_of(
    st.sampled_from([b"", b"null", b"{", b"\xc1", gzip.compress(b"{}" * 99)[:-9], gzip.compress(b'"x"'), b"[" * 9_999]),
    st.binary(max_size=200),
    st.integers(0, HUGE).map(lambda size: b"9" * size),
)


Message = tuple[tuple[str, str], bytes, bytes]


def messages(
    targets: list[tuple[str, str]], ids: list[str], reply_to: list[str], *, is_sound: bool
) -> st.SearchStrategy[Message]:
    """Messages: exchange and routing key, content header, body.

    Args:
        ids: of calls in flight.
        reply_to: names of existing queues.
        is_sound: the broker accepts the messages; else it may close the connection because of them.
    """
    return st.tuples(st.sampled_from(targets), headers(ids, reply_to, is_sound=is_sound), bodies)

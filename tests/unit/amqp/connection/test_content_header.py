"""Encoded message properties, compared with pika's."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from crew.amqp.connection import content_header
from crew.protocol.properties import UNREADABLE, Properties

short_text = st.text(max_size=60)
names = st.text(min_size=1, max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
header_values = st.one_of(short_text, integers, st.booleans())

given_properties = st.builds(
    Properties,
    content_type=st.none() | short_text,
    content_encoding=st.none() | short_text,
    correlation_id=st.none() | short_text,
    reply_to=st.none() | short_text,
    type=st.none() | short_text,
    message_id=st.none() | short_text,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    priority=st.none() | st.integers(0, 255),
    expiration=st.none() | st.integers(0, 2**32 - 1).map(str),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    app_id=st.none() | short_text,
    headers=st.none() | st.dictionaries(names, header_values, max_size=5),
)


def as_pika(properties: Properties) -> spec.BasicProperties:
    """`properties` as an object of pika."""
    return spec.BasicProperties(**{name: getattr(properties, name) for name in properties.__struct_fields__})


def payload(marshaled: bytes) -> bytes:
    """The payload of a frame."""
    return marshaled[7:-1]


@given(given_properties, st.integers(0, 2**40))
@settings(deadline=None)
def test_pika_decodes_the_properties_that_crew_encodes(properties: Properties, body_size: int) -> None:
    data = content_header.encode(properties, body_size)
    _, read = frame.decode_frame(struct.pack(">BHI", 2, 1, len(data)) + data + b"\xce")
    assert read.body_size == body_size
    assert read.properties == as_pika(properties)


@given(given_properties, st.integers(0, 2**40))
@settings(deadline=None)
def test_crew_decodes_the_properties_that_pika_encodes(properties: Properties, body_size: int) -> None:
    assert content_header.decode(payload(frame.Header(1, body_size, as_pika(properties)).marshal()), 0) == properties


@given(given_properties, st.binary(max_size=20))
@settings(deadline=None)
def test_encoded_properties_are_decoded_at_any_offset(properties: Properties, before: bytes) -> None:
    assert content_header.decode(before + content_header.encode(properties, 3) + b"more", len(before)) == properties


def test_headers_keep_their_types() -> None:
    headers: dict[str, Any] = {"float": 1.5, "int": 7, "large": 2**40, "true": True, "text": "ä"}
    read = content_header.decode(content_header.encode(Properties(headers=headers), 0), 0).headers
    assert read is not None
    assert {name: (type(value), value) for name, value in read.items()} == {
        name: (type(value), value) for name, value in headers.items()
    }


def test_the_x_death_header_of_a_dead_letter_is_decoded() -> None:
    headers = {"x-death": [{"reason": "expired", "count": 2**40}], "x-first-death-reason": "expired"}
    data = payload(frame.Header(1, 0, spec.BasicProperties(headers=headers)).marshal())
    assert content_header.decode(data, 0).headers == headers


def test_properties_that_crew_does_not_use_are_skipped() -> None:
    data = payload(frame.Header(1, 0, spec.BasicProperties(user_id="me", app_id="theirs")).marshal())
    assert content_header.decode(data, 0) == Properties(app_id="theirs")


def test_text_that_is_not_utf_8_is_decoded_as_bytes() -> None:
    data = payload(frame.Header(1, 0, spec.BasicProperties(correlation_id=b"\xff", headers={"a": "b"})).marshal())
    assert content_header.decode(data, 0) == Properties(correlation_id=b"\xff", headers={"a": "b"})  # type: ignore[arg-type]


@given(
    st.builds(
        Properties,
        correlation_id=st.binary(max_size=60),
        headers=st.dictionaries(
            st.binary(max_size=9) | names,
            st.recursive(
                st.none()
                | st.booleans()
                | integers
                | st.floats(allow_nan=False, allow_infinity=False)
                | short_text
                | st.binary(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=9), inner, max_size=3),
            ),
            max_size=5,
        ),
    )
)
@settings(deadline=None)
def test_properties_of_other_senders_can_be_forwarded_unchanged(properties: Properties) -> None:
    read = content_header.decode(content_header.encode(properties, 0), 0)
    assert content_header.decode(content_header.encode(read, 0), 0) == read


@pytest.mark.parametrize(
    "value",
    [b"T" + struct.pack(">Q", 2**60), b"?", b"l\x00", b"F\xff\xff\xff\xff"],
    ids=["a far timestamp", "a type", "too short", "a length"],
)
def test_headers_that_cannot_be_decoded_are_marked_and_the_rest_is_decoded(value: bytes) -> None:
    table = b"\x03bad" + value
    data = struct.pack(">HHQH", 60, 0, 0, 1 << 13 | 1 << 10) + struct.pack(">I", len(table)) + table + b"\x0217"
    read = content_header.decode(data, 0)
    assert list(read.headers or {}) == [UNREADABLE]
    assert read.correlation_id == "17"


@pytest.mark.parametrize(
    "properties",
    [Properties(correlation_id="x" * 256), Properties(headers={"x" * 256: 1}), Properties(headers={"large": 2**63})],
)
def test_properties_that_do_not_fit_are_an_error(properties: Properties) -> None:
    with pytest.raises((ValueError, struct.error)):
        content_header.encode(properties, 0)

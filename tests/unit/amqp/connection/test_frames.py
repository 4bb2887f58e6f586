"""Publish, deliver and ack frames, compared with pika's."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from crew.amqp.connection import frames
from crew.protocol.properties import Properties

LARGEST = 1000


def decoded_by_pika(data: bytes) -> list[Any]:
    """The frames in `data`, as pika decodes them."""
    read = []
    while data:
        consumed, value = frame.decode_frame(data)
        assert value is not None
        read.append(value)
        data = data[consumed:]
    return read


def a_delivery(body: bytes = b"body", *, tag: int = 7, channel: int = 1, redelivered: bool = False) -> bytes:
    """The frames of a delivery, as the broker sends them."""
    deliver = spec.Basic.Deliver("consumer", tag, redelivered, "crew.PUBSUB", "the.topic")
    parts: list[Any] = [frame.Method(channel, deliver)]
    parts.append(frame.Header(channel, len(body), spec.BasicProperties(correlation_id="17", headers={"a": 1})))
    parts += [frame.Body(channel, body)] if body else []
    return b"".join(part.marshal() for part in parts)


@given(st.binary(max_size=3 * LARGEST), st.booleans(), st.integers(1, 2047))
@settings(deadline=None)
def test_a_message_has_the_same_frames_as_from_pika(body: bytes, mandatory: bool, channel: int) -> None:
    pieces = frames.publish(
        channel, "an.exchange", "a.key", Properties(priority=3), body, mandatory=mandatory, largest=LARGEST
    )
    method, head, *bodies = decoded_by_pika(b"".join(pieces))
    assert (method.method.exchange, method.method.routing_key, method.method.mandatory) == (
        "an.exchange",
        "a.key",
        mandatory,
    )
    assert head.body_size == len(body)
    assert b"".join(one.fragment for one in bodies) == body
    assert all(0 < len(one.fragment) <= LARGEST for one in bodies)
    assert {one.channel_number for one in (method, head, *bodies)} == {channel}


@pytest.mark.parametrize("multiple", [False, True])
def test_an_ack_is_the_same_frame_as_from_pika(multiple: bool) -> None:
    assert frames.ack(3, 2**40, multiple=multiple) == frame.Method(3, spec.Basic.Ack(2**40, multiple)).marshal()


@pytest.mark.parametrize("body", [b"", b"body", b"\x00\x3c\x00\x3c" * 100])
@pytest.mark.parametrize("redelivered", [False, True])
def test_a_delivery_is_decoded_at_any_offset(body: bytes, redelivered: bool) -> None:
    data = a_delivery(body, redelivered=redelivered)
    delivered = frames.delivered_at(b"before" + data + b"after", 6)
    assert delivered == frames.Delivered(
        channel=1,
        consumer_tag="consumer",
        delivery_tag=7,
        redelivered=redelivered,
        routing_key="the.topic",
        properties=Properties(correlation_id="17", headers={"a": 1}),
        body=body,
        end=6 + len(data),
    )


def test_an_incomplete_delivery_is_left_to_pika() -> None:
    data = a_delivery()
    assert [frames.delivered_at(data[:size], 0) for size in range(7, len(data))] == [None] * (len(data) - 7)


def in_frames(body: bytes, *sizes: int) -> bytes:
    """A delivery of `body` in frames of these sizes."""
    head, at, pieces = a_delivery(body)[: -(len(body) + frames.ENVELOPE)], 0, []
    for size in sizes:
        pieces.append(frame.Body(1, body[at : at + size]).marshal())
        at += size
    return head + b"".join(pieces)


def test_a_body_in_several_frames_is_decoded_at_any_offset() -> None:
    data = in_frames(b"0123456789", 4, 4, 2)
    delivered = frames.delivered_at(b"before" + data, 6)
    assert delivered is not None
    assert (delivered.body, delivered.end) == (b"0123456789", 6 + len(data))
    assert [frames.delivered_at(data[:size], 0) for size in range(7, len(data))] == [None] * (len(data) - 7)


def test_a_large_message_is_awaited_for_no_more_bytes_than_it_lacks() -> None:
    body, largest = bytes(100_000), 30_000
    data = in_frames(body, 30_000, 30_000, 30_000, 10_000)
    begin = len(data) - len(body) - 4 * frames.ENVELOPE
    assert frames.missing_of_delivery(data, 0, largest) == 0
    for size in (*range(begin, begin + 20), 40_000, *range(begin + 30_000, begin + 30_020), len(data) - 1):
        missing = frames.missing_of_delivery(data[:size], 0, largest)
        assert 0 < missing <= len(data) - size
        assert frames.delivered_at(data[:size], 0) is None


def test_a_message_between_whose_frames_others_arrive_is_not_awaited() -> None:
    whole = in_frames(bytes(100_000), 30_000)
    for other in (frames.ack(1, 1, multiple=False), frame.Body(2, b"x").marshal(), frame.Body(1, b"").marshal()):
        assert frames.missing_of_delivery(whole + other, 0, 30_000) == 0
        assert frames.delivered_at(whole + other, 0) is None
    assert frames.missing_of_delivery(whole, 0, 29_999) == 0  # a frame is larger than agreed
    assert frames.missing_of_delivery(in_frames(bytes(10_000), 5_000), 0, 30_000) == 0  # small


@pytest.mark.parametrize("inside", [a_delivery()[7:], frames.ack(1, 1, multiple=False)[7:]])
def test_a_body_that_looks_like_a_method_is_not_decoded_as_one(inside: bytes) -> None:
    data = frame.Body(1, inside).marshal()
    assert frames.delivered_at(data, 0) is None
    assert frames.acked_at(data, 0) is None


@pytest.mark.parametrize("multiple", [False, True])
def test_a_confirm_is_decoded_at_any_offset(multiple: bool) -> None:
    data = frame.Method(3, spec.Basic.Ack(2**40, multiple)).marshal()
    assert frames.acked_at(b"before" + data, 6) == frames.Acked(3, 2**40, multiple, 6 + len(data))
    assert [frames.acked_at(data[:size], 0) for size in range(7, len(data))] == [None] * (len(data) - 7)


def altered(data: bytes, at: int, value: int) -> bytes:
    """`data` with the byte `value` at the offset `at`."""
    return data[:at] + bytes([value]) + data[at + 1 :]


DELIVERY = a_delivery(b"body")
BODY_AT = len(DELIVERY) - len(b"body") - frames.ENVELOPE
HEADER_AT = DELIVERY.index(b"\xce\x02\x00\x01") + 1


@pytest.mark.parametrize(
    "data",
    [
        altered(DELIVERY, HEADER_AT - 1, 0),
        altered(DELIVERY, BODY_AT - 1, 0),
        altered(DELIVERY, len(DELIVERY) - 1, 0),
        altered(DELIVERY, HEADER_AT + 2, 2),
        altered(DELIVERY, BODY_AT + 2, 2),
        altered(DELIVERY, BODY_AT, frames.HEADER),
        altered(a_delivery(b""), len(a_delivery(b"")) - 1, 0),
    ],
    ids=[
        "the end of the method",
        "the end of the header",
        "the end of the body",
        "the channel of the header",
        "the channel of the body",
        "the type of the body",
        "the end of a header without a body",
    ],
)
def test_a_delivery_that_breaks_the_protocol_is_not_decoded(data: bytes) -> None:
    """AMQP 0-9-1 §4.2.3 and §4.2.6; its frames are then checked one by one, see test_connection.py."""
    assert frames.delivered_at(data, 0) is None


def test_a_confirm_that_breaks_the_protocol_is_not_decoded() -> None:
    data = frame.Method(3, spec.Basic.Ack(7, False)).marshal()
    assert frames.acked_at(altered(data, len(data) - 1, 0), 0) is None

"""Deliveries and confirms that bypass pika's callbacks."""

from typing import Any

import pytest
from pika import frame, spec

from crew.amqp.connection import frames
from crew.amqp.connection.channel_codec import CodecChannel
from crew.protocol.properties import Properties
from tests.unit.amqp.connection.test_frames import decoded_by_pika


class OpenChannel(CodecChannel):
    """An open channel without a broker."""

    def __init__(self) -> None:
        self.connection: Any = FakeConnection()
        self.channel_number = 1
        self._consumers: dict[str, Any] = {}
        self._cancelled: set[str] = set()


class FakeConnection:
    """Records what is sent."""

    largest_body = 1000

    def __init__(self) -> None:
        self.at_once: list[bytes] = []
        self.soon: list[bytes] = []

    def send_message(self, pieces: list[bytes]) -> None:
        self.at_once += pieces

    def send_soon(self, piece: bytes) -> None:
        self.soon.append(piece)


def delivered(consumer_tag: str) -> frames.Delivered:
    """A delivery for a consumer."""
    return frames.Delivered(1, consumer_tag, 7, False, "q", Properties(correlation_id="17"), b"body", 0)


def test_a_delivery_reaches_its_consumer() -> None:
    channel = OpenChannel()
    received: list[Any] = []
    channel._consumers["mine"] = lambda *arguments: received.append(arguments)
    one = delivered("mine")
    assert channel.on_delivered(one) is True
    assert received == [(channel, one, one.properties, b"body")]


@pytest.mark.parametrize("why", ["it is unknown", "it was canceled"])
def test_a_delivery_without_a_consumer_is_left_to_pika(why: str) -> None:
    channel = OpenChannel()
    if why == "it was canceled":
        channel._consumers["mine"] = pytest.fail
        channel._cancelled.add("mine")
    assert channel.on_delivered(delivered("mine")) is False


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize(("method", "is_taken"), [(spec.Basic.Ack, True), (spec.Basic.Nack, False)])
def test_a_confirm_that_pika_has_decoded_is_passed_on(method: Any, is_taken: bool, multiple: bool) -> None:
    channel = OpenChannel()
    confirms: list[Any] = []
    channel.confirm_delivery = lambda on_confirm, agreed: on_confirm(frame.Method(1, method(9, multiple)))
    channel.request_confirms(lambda *confirm: confirms.append(confirm), lambda agreed: None)
    assert confirms == [(9, multiple, is_taken)]


def test_a_message_is_written_at_once_and_an_ack_with_the_next_write() -> None:
    channel = OpenChannel()
    channel.basic_publish("", "q", b"body", Properties(priority=3), True)
    channel.basic_ack(7)
    method, head, body = decoded_by_pika(b"".join(channel.connection.at_once))
    assert (method.method.routing_key, method.method.mandatory, head.properties.priority) == ("q", True, 3)
    assert body.fragment == b"body"
    assert decoded_by_pika(b"".join(channel.connection.soon)) == [frame.Method(1, spec.Basic.Ack(7, False))]

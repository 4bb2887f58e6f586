"""pika's channel, where `frames.py` encodes and decodes the frames of every call.

`connection.py` passes deliveries and confirms straight to this channel, without pika's callbacks.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pika import spec

from crew.amqp.connection import frames
from crew.amqp.connection.pika_adapter import PikaChannel
from crew.protocol.properties import Properties

OnConfirm = Callable[[int, bool, bool], None]  # delivery tag, whether for all up to it, whether the broker has them


class FrameWriter(Protocol):
    """The part of a connection that a channel uses."""

    @property
    def largest_body(self) -> int: ...
    def send_message(self, pieces: Sequence[frames.Piece]) -> None: ...
    def send_large_message(self, pieces: Sequence[frames.Piece]) -> None: ...
    def send_soon(self, piece: bytes) -> None: ...
    def abort_on_protocol_error(self, problem: str) -> None: ...


class CodecChannel(PikaChannel):
    """A channel of a BrokerConnection. Its methods do not check whether the channel is open: the caller does."""

    connection: FrameWriter

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool = False
    ) -> None:
        """Send a message; raise ValueError where a property does not fit into its field."""
        largest = self.connection.largest_body
        pieces = frames.publish(
            self.channel_number, exchange, routing_key, properties, body, mandatory=mandatory, largest=largest
        )
        if len(body) > largest:
            self.connection.send_large_message(pieces)
        else:
            self.connection.send_message(pieces)

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all deliveries up to it."""
        self.connection.send_soon(frames.ack(self.channel_number, delivery_tag, multiple=multiple))

    def request_confirms(self, on_confirm: OnConfirm, callback: Callable[[Any], object]) -> None:
        """Request publisher confirms, and call `callback` when the broker has agreed.

        Args:
            on_confirm: called for each confirm with its delivery tag, whether it is for all messages up to this one,
                and whether the broker has the messages. Its exceptions would close the connection.
        """
        self.on_confirm = on_confirm
        self.confirm_delivery(self._on_rare_confirm, callback)

    def _on_rare_confirm(self, frame: Any) -> None:
        """The broker has refused a message, or its confirm did not arrive in one read."""
        method = frame.method
        self.on_confirm(method.delivery_tag, method.multiple, isinstance(method, spec.Basic.Ack))

    def on_content_frame(self, value: Any) -> None:
        """Handle a frame of a message between whose frames others have arrived."""
        if problem := self.content_problem(value):
            self.connection.abort_on_protocol_error(f"{problem} arrived on channel {self.channel_number}")
        else:
            self.handle_content_frame(value)

    def on_delivered(self, delivered: frames.Delivered) -> bool:
        """Pass a delivery to its consumer; return False where pika has to handle it."""
        consumer = self.consumer_of(delivered.consumer_tag)
        if consumer is None:
            return False
        consumer(self, delivered, delivered.properties, delivered.body)
        return True

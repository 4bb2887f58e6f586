"""pika's channel, with what every call needs encoded by `frames.py`; what arrives of it, `wire.py` brings here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika.channel
import pika.frame
from pika import spec

from crew.amqp.connection import frames
from crew.protocol.properties import Properties

if TYPE_CHECKING:
    from crew.amqp.connection.connection import Wire


class WireChannel(pika.channel.Channel):  # type: ignore[misc]  # pika has no types
    """A channel of a wire; who uses it has looked whether it is open."""

    connection: "Wire"

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool = False
    ) -> None:
        """Send a message; raises ValueError where a property does not fit."""
        self.connection.send_message(
            frames.publish(
                self.channel_number,
                exchange,
                routing_key,
                properties,
                body,
                mandatory=mandatory,
                largest=self.connection.largest_body,
            )
        )

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self.connection.send_soon(frames.ack(self.channel_number, delivery_tag, multiple=multiple))

    def confirm_delivery(self, ack_nack_callback: Callable[[Any], None], callback: Any = None) -> None:
        """As pika's."""
        super().confirm_delivery(ack_nack_callback, callback)
        self._on_confirm = ack_nack_callback

    def _handle_content_frame(self, frame_value: Any) -> None:
        """A frame of a message, for which pika has no callback."""
        if problem := self._problem_of(frame_value):
            self.connection.break_off(f"{problem} came over channel {self.channel_number}")
        else:
            super()._handle_content_frame(frame_value)

    def _problem_of(self, content: Any) -> str | None:
        """What is wrong with a frame of a message; None where nothing is.

        A method, one header, and as many bytes of body as that says: AMQP 0-9-1 §4.2.6.
        """
        message = self._content_assembler
        if isinstance(content, pika.frame.Method):
            if message._method_frame is not None:
                return f"{content.method.NAME} in the midst of a message"
        elif isinstance(content, pika.frame.Header):
            if message._method_frame is None or message._header_frame is not None:
                return "a header frame without a message"
        elif message._header_frame is None:
            return "a body frame without a header"
        elif message._seen_so_far + len(content.fragment) > message._header_frame.body_size:
            return "more bytes of a body than its header says"
        return None

    def on_delivered(self, delivered: frames.Delivered) -> bool:
        """A delivery has arrived; False where it is pika's to say what becomes of it."""
        consumer = self._consumers.get(delivered.consumer_tag)
        if consumer is None or delivered.consumer_tag in self._cancelled:
            return False
        consumer(self, delivered, delivered.properties, delivered.body)
        return True

    def on_acked(self, acked: frames.Acked) -> None:
        """The broker has taken a message, or all up to it."""
        method = spec.Basic.Ack(acked.delivery_tag, acked.multiple)
        self._on_confirm(pika.frame.Method(self.channel_number, method))

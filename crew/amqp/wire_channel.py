"""pika's channel, with what every call needs encoded by `frames.py`; what arrives of it, `wire.py` brings here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pika.channel
import pika.frame
from pika import spec

from crew.amqp import frames
from crew.protocol.properties import Properties

if TYPE_CHECKING:
    from crew.amqp.wire import Wire


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

"""Messages through one or many queues of a kind, over bare pika: confirmed, consumed and acknowledged."""

import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

import pika
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

IN_FLIGHT: Final = 64  # messages
BODY: Final = b"x" * 50


def through(url: str, queues: Sequence[str], seconds: float, *, persistent: bool) -> int:
    """Send messages through the queues in turn for some seconds; returns how many have arrived."""
    return _Messages(url, queues, seconds, persistent).run()


class _Messages:
    """Publishes a message for each one that arrives."""

    def __init__(self, url: str, queues: Sequence[str], seconds: float, persistent: bool) -> None:
        self._queues = queues
        self._properties = BasicProperties(delivery_mode=2 if persistent else 1)
        self._next = itertools.cycle(queues)
        self._end = time.perf_counter() + seconds
        self._received = self._published = 0
        self._consumers = 0
        self._connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._on_open)

    def run(self) -> int:
        """Return the number of messages."""
        self._connection.ioloop.start()
        return self._received

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.confirm_delivery(lambda _: None)
        for queue in self._queues:
            channel.basic_consume(queue, self._on_message, callback=lambda _: self._on_consumer(channel))

    def _on_consumer(self, channel: Channel) -> None:
        self._consumers += 1
        if self._consumers == len(self._queues):
            for _ in range(IN_FLIGHT):
                self._publish(channel)

    def _publish(self, channel: Channel) -> None:
        self._published += 1
        channel.basic_publish("", next(self._next), BODY, self._properties, mandatory=True)

    def _on_message(self, channel: Channel, deliver: Basic.Deliver, _: Any, __: bytes) -> None:
        channel.basic_ack(deliver.delivery_tag)
        self._received += 1
        if time.perf_counter() < self._end:
            self._publish(channel)
        elif self._received == self._published:
            self._connection.close()

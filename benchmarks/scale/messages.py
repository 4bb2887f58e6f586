"""Messages through one or many queues, over bare pika: confirmed, consumed and acknowledged one by one."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pika
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

IN_FLIGHT: Final = 64  # messages
BODY: Final = b"x" * 50

Cpu = Callable[[], float]


def cpu_of_message(url: str, queues: Sequence[str], seconds: float, cpu: Cpu, *, persistent: bool) -> float:
    """Send messages through the queues in turn; returns the CPU seconds for each, as `cpu` counts them.

    At first one message goes through each queue, because the broker creates files for it: this is not counted.

    Args:
        seconds: how long the counted messages are sent.
        cpu: returns the CPU seconds of the broker.
    """
    properties = BasicProperties(delivery_mode=2 if persistent else 1)
    return _Messages(url, queues, seconds, cpu, properties).run()


class _Messages:
    """Publishes a message for each one that arrives."""

    def __init__(self, url: str, queues: Sequence[str], seconds: float, cpu: Cpu, properties: BasicProperties) -> None:
        self._queues, self._seconds, self._cpu, self._properties = queues, seconds, cpu, properties
        self._next = itertools.cycle(queues)
        self._received = self._published = self._consumers = 0
        self._uncounted = len(queues)
        self._end = float("inf")
        self._connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._on_open)

    def run(self) -> float:
        """Return the CPU seconds of a message."""
        self._connection.ioloop.start()
        return (self._cpu() - self._before) / (self._received - self._uncounted)

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
            for _ in range(max(self._uncounted, IN_FLIGHT)):
                self._publish(channel)

    def _publish(self, channel: Channel) -> None:
        self._published += 1
        channel.basic_publish("", next(self._next), BODY, self._properties, mandatory=True)

    def _on_message(self, channel: Channel, deliver: Basic.Deliver, _: Any, __: bytes) -> None:
        channel.basic_ack(deliver.delivery_tag)
        self._received += 1
        if self._received == self._uncounted:
            self._before, self._end = self._cpu(), time.perf_counter() + self._seconds
        if time.perf_counter() < self._end:
            if self._published - self._received < IN_FLIGHT:
                self._publish(channel)
        elif self._received == self._published:
            self._connection.close()

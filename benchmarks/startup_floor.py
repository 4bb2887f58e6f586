"""What the broker takes to start a worker with many tasks: its requests over bare pika, many at a time."""

import functools
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import pika
from pika import spec
from pika.channel import Channel

CHANNELS: Final = 16
AT_A_TIME: Final = 8  # requests in flight on one channel
ARGUMENTS: Final = {"x-max-priority": 9, "x-dead-letter-exchange": "amq.headers", "x-queue-type": "classic"}
_ANSWERS: Final = [spec.Queue.DeclareOk, spec.Queue.BindOk, spec.Queue.DeleteOk, spec.Basic.ConsumeOk]

Step = tuple[str, list[Any]]


def floor(url: str, count: int) -> dict[str, float]:
    """Seconds of each step, for `count` tasks and one process; the queues are deleted at the end."""
    prefix = f"startup.floor.{uuid4().hex[:8]}."
    queues, control = [f"{prefix}{number}" for number in range(count)], f"{prefix}control"
    declare = [spec.Queue.Declare(queue=name, durable=True, arguments=ARGUMENTS) for name in queues]
    bind = [spec.Queue.Bind(queue=control, exchange="amq.topic", routing_key=name) for name in queues]
    consume = [spec.Basic.Consume(queue=name, consumer_tag=name) for name in queues]
    steps = [
        ("new queues", declare),
        ("existing queues", declare),
        ("the control queue", [spec.Queue.Declare(queue=control, durable=True)]),
        ("bindings", bind),
        ("consumers", consume),
    ]
    seconds = Requests(url, steps).run()
    delete_queues(url, [*queues, control])
    return {name: took for name, took in seconds.items() if name != "the control queue"}


def delete_queues(url: str, names: Iterable[str]) -> None:
    """Delete queues with their messages."""
    Requests(url, [("delete", [spec.Queue.Delete(queue=name) for name in names])]).run()


class Requests:
    """Sends the requests of each step over all channels at once; `run` returns the seconds of each step."""

    def __init__(self, url: str, steps: Iterable[Step]) -> None:
        self._url = url
        self._steps = iter(steps)
        self._seconds: dict[str, float] = {}
        self._channels: list[Channel] = []
        self._requests: deque[Any] = deque()
        self._in_flight = 0

    def run(self) -> dict[str, float]:
        """Return the seconds of each step."""
        connection = pika.SelectConnection(pika.URLParameters(self._url), on_open_callback=self._open_channel)
        connection.ioloop.start()
        return self._seconds

    def _open_channel(self, connection: pika.SelectConnection) -> None:
        connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
        for _ in range(CHANNELS):
            connection.channel(on_open_callback=functools.partial(self._on_channel, connection))

    def _on_channel(self, connection: pika.SelectConnection, channel: Channel) -> None:
        self._channels.append(channel)
        channel.add_callback(lambda _: self._on_answer(connection, channel), _ANSWERS, one_shot=False)
        if len(self._channels) == CHANNELS:
            self._begin(connection)

    def _begin(self, connection: pika.SelectConnection) -> None:
        """Begin the next step, or end."""
        step = next(self._steps, None)
        if step is None:
            connection.close()
            return
        self._name, requests = step
        self._requests.extend(requests)
        self._started = time.perf_counter()
        for channel in self._channels * AT_A_TIME:
            self._send(channel)

    def _send(self, channel: Channel) -> None:
        """Send the next request, past pika's queue, which would wait for each answer."""
        if self._requests:
            self._in_flight += 1
            channel._send_method(self._requests.popleft())

    def _on_answer(self, connection: pika.SelectConnection, channel: Channel) -> None:
        self._in_flight -= 1
        self._send(channel)
        if not self._in_flight:
            self._seconds[self._name] = time.perf_counter() - self._started
            self._begin(connection)

"""The floors for comparison: the echo over bare pika, with only what every correct worker needs.

    floor.py client|worker [--persistent]

The transient floor: manual acknowledgement on both queues, prefetch 64, one long-lived task thread in the worker, JSON
by msgspec; no publisher confirms, no deadlines, no headers, no recovery. The persistent floor keeps what crew's default
settings promise: durable queues, persistent messages, `mandatory` and publisher confirms for call and reply. Its worker
acknowledges a call when the broker has confirmed the reply. The additional cost of crew is the cost of its other
guarantees. This module imports nothing from crew, so that crew cannot make it faster or slower.
"""

import asyncio
import os
import queue
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import load
import msgspec
import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

QUEUE = "crew.benchmark.floor"
DURABLE_QUEUE = f"{QUEUE}.durable"
DURABLE = {"durable": True, "arguments": {"x-expires": 60_000}}  # milliseconds; an exclusive queue is never durable
PREFETCH = 64
PERSISTENT = 2  # delivery mode

Delivery = tuple[int, BasicProperties, bytes]
OnMessage = Callable[[Channel, Basic.Deliver, BasicProperties, bytes], None]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def open_channel(url: str) -> Channel:
    """Open a connection and a channel on it."""
    opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=opened.set_result),
        on_open_error_callback=lambda _, error: opened.set_exception(error),
    )
    return await opened


async def consume(channel: Channel, name: str, on_message: OnMessage, **declare: Any) -> None:
    """Declare the queue `name` and consume from it with manual acknowledgement."""
    consuming: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.queue_declare(name, **declare)
    channel.basic_consume(name, on_message, callback=consuming.set_result)
    await consuming


class Client:
    """Publishes calls; the I/O loop sets the result of a future for each reply."""

    def __init__(self, channel: Channel) -> None:
        self.reply_to = f"{QUEUE}.{uuid.uuid4().hex}"
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, asyncio.Future[Any]] = {}

    def call(self, payload: Any) -> asyncio.Future[Any]:
        """Call the echo; returns a future of its value."""
        id = uuid.uuid4().hex
        future = self._pending[id] = self._loop.create_future()
        properties = BasicProperties(correlation_id=id, reply_to=self.reply_to)
        self._channel.basic_publish("", QUEUE, _encode(payload), properties)
        return future

    def on_reply(self, channel: Channel, deliver: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        """Settle the call, then acknowledge."""
        self._pending.pop(properties.correlation_id).set_result(_decode(body))
        channel.basic_ack(deliver.delivery_tag)


class Worker:
    """Passes deliveries to the task thread, and publishes its replies."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def on_call(self, _: Channel, deliver: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        """Queue the delivery for the task thread."""
        self._inbox.put((deliver.delivery_tag, properties, body))

    def run(self) -> None:
        """Run the echo in the task thread, in an endless loop."""
        while True:
            tag, properties, body = self._inbox.get()
            self._loop.call_soon_threadsafe(self._reply, tag, properties, _encode(_decode(body)))

    def _reply(self, tag: int, properties: BasicProperties, body: bytes) -> None:
        answer = BasicProperties(correlation_id=properties.correlation_id)
        self._channel.basic_publish("", properties.reply_to, body, answer)
        self._channel.basic_ack(tag)


class Confirms:
    """The messages of one channel that the broker has not confirmed yet, each with a value.

    Args:
        on_confirm: called with the value of each confirmed message.
    """

    def __init__(self, channel: Channel, on_confirm: Callable[[Any], None]) -> None:
        self._channel = channel
        self._on_confirm = on_confirm
        self._unconfirmed: dict[int, Any] = {}
        self._published = self._confirmed = 0
        channel.add_on_return_callback(_refuse)
        channel.confirm_delivery(self._on_answer)

    def publish(self, routing_key: str, body: bytes, properties: BasicProperties, value: Any) -> None:
        """Publish a mandatory message."""
        self._channel.basic_publish("", routing_key, body, properties, mandatory=True)
        self._published += 1
        self._unconfirmed[self._published] = value

    def _on_answer(self, frame: Any) -> None:
        answer = frame.method
        if not isinstance(answer, Basic.Ack):
            raise RuntimeError("the broker did not take a message")
        first = self._confirmed + 1 if answer.multiple else answer.delivery_tag
        for tag in range(first, answer.delivery_tag + 1):
            if tag in self._unconfirmed:  # confirms may come out of order
                self._on_confirm(self._unconfirmed.pop(tag))
        if answer.multiple:
            self._confirmed = answer.delivery_tag


def _refuse(*_: Any) -> None:
    raise RuntimeError("the broker returned a message: no queue takes it")


class PersistentClient(Client):
    """Publishes persistent calls with confirms; a call ends with its reply, which may come before the confirm."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._confirms = Confirms(channel, lambda _: None)

    def call(self, payload: Any) -> asyncio.Future[Any]:
        """Call the echo; returns a future of its value."""
        id = uuid.uuid4().hex
        future = self._pending[id] = self._loop.create_future()
        properties = BasicProperties(correlation_id=id, reply_to=self.reply_to, delivery_mode=PERSISTENT)
        self._confirms.publish(DURABLE_QUEUE, _encode(payload), properties, id)
        return future


class PersistentWorker(Worker):
    """Publishes persistent replies, and acknowledges a call when the broker has confirmed its reply."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._confirms = Confirms(channel, channel.basic_ack)

    def _reply(self, tag: int, properties: BasicProperties, body: bytes) -> None:
        answer = BasicProperties(correlation_id=properties.correlation_id, delivery_mode=PERSISTENT)
        self._confirms.publish(properties.reply_to, body, answer, tag)


async def run_client(url: str, *, persistent: bool) -> None:
    """Run the orders from stdin."""
    channel = await open_channel(url)
    client = PersistentClient(channel) if persistent else Client(channel)
    await consume(channel, client.reply_to, client.on_reply, **(DURABLE if persistent else {"exclusive": True}))
    await load.serve(client.call)


async def run_worker(url: str, *, persistent: bool) -> None:
    """Serve the echo until stdin ends."""
    channel = await open_channel(url)
    worker = PersistentWorker(channel) if persistent else Worker(channel)
    threading.Thread(target=worker.run, daemon=True).start()
    if persistent:
        await consume(channel, DURABLE_QUEUE, worker.on_call, **DURABLE)
    else:
        await consume(channel, QUEUE, worker.on_call, exclusive=True)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    run = {"client": run_client, "worker": run_worker}[sys.argv[1]]
    asyncio.run(run(os.environ["CREW_AMQP_URL"], persistent="--persistent" in sys.argv))

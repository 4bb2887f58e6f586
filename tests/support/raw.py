"""Sends and reads messages with bare pika, as a foreign or careless program would."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

from crew.protocol.topology import Queue


@contextmanager
def channel(url: str) -> Iterator[Any]:
    """A pika channel on its own connection."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


def send(url: str, queue: str, body: bytes, **properties: Any) -> None:
    """Publish one message to `queue`, which must exist."""
    with channel(url) as raw:
        raw.confirm_delivery()
        raw.basic_publish("", queue, body, pika.BasicProperties(**properties), mandatory=True)


def ask(url: str, queue: str, body: bytes, *, timeout: float = 5, **properties: Any) -> tuple[Any, bytes] | None:
    """Publish one message and wait for its reply; returns properties and body, or None after the timeout."""
    with channel(url) as raw:
        reply_to = raw.queue_declare("", exclusive=True).method.queue
        raw.basic_publish("", queue, body, pika.BasicProperties(reply_to=reply_to, **properties), mandatory=True)
        for method, reply, answer in raw.consume(reply_to, auto_ack=True, inactivity_timeout=timeout):
            if method is None:
                return None
            if (reply.headers or {}).get("crew-outcome") != "started":
                return reply, answer
    return None


def parked(url: str) -> list[tuple[dict[str, Any], bytes]]:
    """Remove all parked messages; returns headers and bodies."""
    return [(properties.headers or {}, body) for properties, body in parked_messages(url)]


def parked_messages(url: str) -> list[tuple[Any, bytes]]:
    """Remove all parked messages; returns properties and bodies."""
    found: list[tuple[Any, bytes]] = []
    with channel(url) as raw:
        while True:
            method, properties, body = raw.basic_get("crew.parked", auto_ack=True)
            if method is None:
                return found
            found.append((properties, body))


def depth(url: str, queue: str) -> int:
    """The number of ready messages in `queue`."""
    with channel(url) as raw:
        return int(raw.queue_declare(queue, passive=True).method.message_count)


def consumers(url: str, queue: str) -> int:
    """The number of consumers of `queue`."""
    with channel(url) as raw:
        return int(raw.queue_declare(queue, passive=True).method.consumer_count)


def declare(url: str, queue: Queue) -> None:
    """Declare `queue`, as workers do."""
    with channel(url) as raw:
        raw.queue_declare(queue.name, durable=True, arguments=queue.arguments)

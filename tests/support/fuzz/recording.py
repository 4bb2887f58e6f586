"""Records the messages that crew itself sends, as the seeds of mutated messages.

RabbitMQ's firehose copies every published message to an exchange: https://www.rabbitmq.com/docs/firehose.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pika

from crew.cli.broker.node import Node
from tests.support.broker import vhost_of

TRACE = "amq.rabbitmq.trace"
LISTENS_WITHIN = 10.0  # seconds
POLL = 0.2  # seconds
PER_KIND = 20  # seeds per kind of message; more are not useful


@dataclass(frozen=True)
class Recorded:
    """A message, with its exchange and routing key.

    Attributes:
        properties: by pika's names; missing ones are left out.
    """

    exchange: str
    key: str
    properties: dict[str, Any]
    body: bytes = field(repr=False)

    @property
    def kind(self) -> tuple[str, str, str]:
        """Exchange, first words of the routing key, and type."""
        return self.exchange, ".".join(self.key.split(".")[:3]), str(self.properties.get("type"))


@contextmanager
def recording(node: Node, url: str) -> Iterator[list[Recorded]]:
    """Record all messages in the virtual host of `url` during the block; the list is complete after the block."""
    vhost = vhost_of(url)
    found: list[Recorded] = []
    listens, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=_listen, args=(url, found, listens, done))
    thread.start()
    assert listens.wait(LISTENS_WITHIN)
    node.ctl("trace_on", "-p", vhost)
    try:
        yield found
    finally:
        node.ctl("trace_off", "-p", vhost)
        done.set()
        thread.join()


def few_of_each_kind(messages: list[Recorded]) -> list[Recorded]:
    """The first PER_KIND of each kind."""
    kept: dict[tuple[str, str, str], list[Recorded]] = {}
    for message in messages:
        same = kept.setdefault(message.kind, [])
        if len(same) < PER_KIND:
            same.append(message)
    return [message for same in kept.values() for message in same]


def _listen(url: str, found: list[Recorded], listens: threading.Event, done: threading.Event) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, TRACE, "publish.#")
        listens.set()
        for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=POLL):
            if method is not None:
                traced = properties.headers
                found.append(Recorded(traced["exchange_name"], traced["routing_keys"][0], traced["properties"], body))
            elif done.is_set():
                return

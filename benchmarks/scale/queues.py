"""Queues as a worker declares them, with several numbers of priority levels, over bare pika."""

from typing import Any, Final

import pika
from pika import spec
from scale.broker import Broker
from startup_floor import Requests

_CLASSIC: Final = {"x-dead-letter-exchange": "amq.headers", "x-queue-type": "classic"}
KINDS: Final[dict[str, dict[str, Any]]] = {
    "plain": _CLASSIC,
    "three levels": {**_CLASSIC, "x-max-priority": 2},
    "ten levels": {**_CLASSIC, "x-max-priority": 9},
    "quorum, one node": {"x-dead-letter-exchange": "amq.headers", "x-queue-type": "quorum"},
}
CLASSIC: Final = tuple(kind for kind, arguments in KINDS.items() if arguments["x-queue-type"] == "classic")


def name(kind: str, number: int) -> str:
    """The name of a queue."""
    return f"scale.{kind.replace(' ', '.')}.{number}"


def declare(broker: Broker, kind: str, numbers: range) -> float:
    """Declare durable queues, many at a time; returns the seconds."""
    requests = [spec.Queue.Declare(queue=name(kind, one), durable=True, arguments=KINDS[kind]) for one in numbers]
    return Requests(broker.url, [("declare", requests)]).run()["declare"]


def check(broker: Broker, kind: str, numbers: range) -> None:
    """Send a message through the first and the last queue; raises RuntimeError if it does not arrive."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel: Any = connection.channel()
        channel.confirm_delivery()
        for queue in (name(kind, numbers[0]), name(kind, numbers[-1])):
            channel.basic_publish("", queue, b"x", mandatory=True)
            method, _, _ = channel.basic_get(queue, auto_ack=True)
            if method is None:
                raise RuntimeError(f"queue {queue} does not deliver")

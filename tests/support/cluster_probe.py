"""Measures without crew when a cluster serves queues again after the loss of a node: it confirms a new message."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType

import pika
from pika.exceptions import AMQPError, NackError

from crew.cli.broker.node import Node
from tests.support.cluster import Cluster

RETRY_DELAY = 0.02  # seconds
CONNECT_TIMEOUT = 3.0  # seconds


class Probe:
    """Publishes to each of `queues`, through the nodes other than `lost`, until the queue's leader confirms a message.

    It uses the queues that the calls pass: each queue elects its own leader, and one may need several seconds longer
    than another. For the worker, an empty message is a call whose task fails.

    Attributes:
        began: time.monotonic() of the loss, or of the start of the block.
        served: for each queue that serves again, the time.monotonic() of its first confirm of a message published
            after `began`.
    """

    def __init__(self, cluster: Cluster, lost: Node, queues: Sequence[str]) -> None:
        self.began = 0.0
        self.served: dict[str, float] = {}
        self._queues = queues
        self._others = [node.url for node in cluster.nodes if node is not lost]
        self._is_over = False
        self._is_lost = threading.Event()

    def __enter__(self) -> "Probe":
        self.began = time.monotonic()
        for queue in self._queues:
            for url in self._others:
                threading.Thread(target=self._probe, args=(url, queue), daemon=True).start()
        return self

    def on_lost(self) -> None:
        """The node is lost: publish, and wait for a confirm."""
        self.began = time.monotonic()
        self._is_lost.set()

    @property
    def served_at(self) -> float | None:
        """The time.monotonic() since which all queues serve again; None before."""
        return max(self.served.values()) if len(self.served) == len(self._queues) else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._is_lost.set()

    def _probe(self, url: str, queue: str) -> None:
        self._is_lost.wait()
        while not self._is_over and queue not in self.served:
            try:
                self._publish(url, queue)
            except (AMQPError, NackError, OSError):
                time.sleep(RETRY_DELAY)

    def _publish(self, url: str, queue: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(f"{url}?socket_timeout={CONNECT_TIMEOUT}")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", queue, b"")
            self.served.setdefault(queue, time.monotonic())

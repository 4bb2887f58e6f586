"""Measures without crew when a cluster serves again after the loss of a node: it confirms a new message."""

import threading
import time
import uuid
from types import TracebackType

import pika
from pika.exceptions import AMQPError, NackError

from crew.cli.broker.node import Node
from tests.support.cluster import Cluster

EXPIRES_MS = 60_000
RETRY_DELAY = 0.02  # seconds
CONNECT_TIMEOUT = 3.0  # seconds


class Probe:
    """Publishes to a quorum queue whose leader is the `lost` node, through the other nodes, until one confirms it.

    Attributes:
        began: time.monotonic() of the loss, or of the start of the block.
        served_at: time.monotonic() of the first confirm of a message published after that; None before.
    """

    def __init__(self, cluster: Cluster, lost: Node) -> None:
        self.began = 0.0
        self.served_at: float | None = None
        self._others = [node.url for node in cluster.nodes if node is not lost]
        self._queue = f"probe.{uuid.uuid4().hex[:8]}"
        self._is_over = False
        self._is_lost = threading.Event()
        self._threads = [threading.Thread(target=self._probe, args=(url,), daemon=True) for url in self._others]
        with pika.BlockingConnection(pika.URLParameters(lost.url)) as connection:  # its node becomes the leader
            arguments = {"x-queue-type": "quorum", "x-expires": EXPIRES_MS}
            connection.channel().queue_declare(self._queue, durable=True, arguments=arguments)

    def __enter__(self) -> "Probe":
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def on_lost(self) -> None:
        """The node is lost: publish, and wait for a confirm."""
        self.began = time.monotonic()
        self._is_lost.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._is_lost.set()

    def _probe(self, url: str) -> None:
        self._is_lost.wait()
        while not self._is_over and self.served_at is None:
            try:
                self._publish(url)
            except (AMQPError, NackError, OSError):
                time.sleep(RETRY_DELAY)

    def _publish(self, url: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(f"{url}?socket_timeout={CONNECT_TIMEOUT}")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", self._queue, b"")
            self.served_at = self.served_at or time.monotonic()

"""When a cluster serves again, as told without crew: a message is confirmed that was sent after a node was struck."""

import threading
import time
import uuid
from types import TracebackType

import pika
from pika.exceptions import AMQPError, NackError

from crew.cli.broker.node import Node
from tests.support.cluster import Cluster

EXPIRES_MS = 60_000
AGAIN_AFTER = 0.02  # seconds
PATIENCE = 3.0  # seconds for a connection


class Probe:
    """Publishes into a quorum queue that `struck` leads, over the other nodes, until one of them confirms it.

    Attributes:
        began: time.monotonic() at the begin of the block.
        served_at: time.monotonic() of the first confirm of what was published after it; None before.
    """

    def __init__(self, cluster: Cluster, struck: Node) -> None:
        self.began = 0.0
        self.served_at: float | None = None
        self._others = [node.url for node in cluster.nodes if node is not struck]
        self._queue = f"probe.{uuid.uuid4().hex[:8]}"
        self._is_over = False
        self._strike = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,), daemon=True) for url in self._others]
        with pika.BlockingConnection(pika.URLParameters(struck.url)) as connection:  # who declares it leads it
            arguments = {"x-queue-type": "quorum", "x-expires": EXPIRES_MS}
            connection.channel().queue_declare(self._queue, durable=True, arguments=arguments)

    def __enter__(self) -> "Probe":
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def struck(self) -> None:
        """The node has gone: what is confirmed from now on counts."""
        self.began = time.monotonic()
        self._strike.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._strike.set()

    def _ask(self, url: str) -> None:
        self._strike.wait()
        while not self._is_over and self.served_at is None:
            try:
                self._publish(url)
            except (AMQPError, NackError, OSError):
                time.sleep(AGAIN_AFTER)

    def _publish(self, url: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(f"{url}?socket_timeout={PATIENCE}")) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", self._queue, b"")
            self.served_at = self.served_at or time.monotonic()

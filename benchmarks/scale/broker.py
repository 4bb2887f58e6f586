"""The private broker of a part: one node in a temporary folder, its CPU time and its memory."""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from process import cpu_of, memory_of

from crew.cli.broker.node import Node

ROOT: Final = Path(__file__).parents[2]
LOGGED_WITHIN: Final = 10.0  # seconds
START_TIMEOUT: Final = 300.0  # seconds; a node with many queues and messages recovers for long after a crash


_RECOVERED: Final = re.compile(r"Recovering \d+ queues of type rabbit_classic_queue took (\d+)ms")


class Restart(NamedTuple):
    """A start of a node that was killed or stopped.

    Attributes:
        seconds: until it accepted connections.
        cpu: CPU seconds that it used for that.
        recovery: seconds of it for the recovery of classic queues, as the node logs it; None if it does not.
    """

    seconds: float
    cpu: float
    recovery: float | None


class Broker:
    """A running private node."""

    def __init__(self, node: Node, log: Path) -> None:
        self._node, self._log = node, log

    @property
    def url(self) -> str:
        """Its AMQP URL."""
        return self._node.url

    def cpu(self) -> float:
        """CPU seconds that it has used since its start, without its short-lived children."""
        pid = self._node.pid
        return cpu_of(pid) if pid else 0.0

    def memory(self) -> float:
        """MiB of its resident set."""
        pid = self._node.pid
        return memory_of(pid).rss if pid else 0.0

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._node.kill()

    def stop(self) -> None:
        """Stop it in good order."""
        self._node.stop(START_TIMEOUT)

    def start(self) -> Restart:
        """Start it again after `kill` or `stop`, and wait until it accepts connections."""
        known, begin = len(self._recoveries()), time.perf_counter()
        self._node.start(START_TIMEOUT)
        seconds, cpu = time.perf_counter() - begin, self.cpu()
        deadline = time.monotonic() + LOGGED_WITHIN
        while len(logged := self._recoveries()) == known and time.monotonic() < deadline:
            time.sleep(0.1)
        return Restart(seconds, cpu, logged[-1] if len(logged) > known else None)

    def _recoveries(self) -> list[float]:
        """Seconds of each recovery in its log, which it writes a moment later; 10 MB are not reached in a run."""
        texts = [file.read_text(errors="replace") for file in self._log.glob("*.log")]
        return [int(took) / 1000 for text in texts for took in _RECOVERED.findall(text)]


def version() -> str:
    """The version of the RabbitMQ that is started, like "3.10.8"."""
    with tempfile.TemporaryDirectory() as folder:
        return Node(Path(folder)).ctl("version").strip()


@contextlib.contextmanager
def private_broker() -> Iterator[Broker]:
    """A new node; it and its data are gone after the block."""
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-") as folder:  # /tmp may be memory
        node = Node(Path(folder))
        try:
            node.start(START_TIMEOUT)
            yield Broker(node, Path(folder) / "log")
        finally:
            node.kill()  # its data are not needed any more
            node.stop()

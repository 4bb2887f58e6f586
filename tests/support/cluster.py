"""A RabbitMQ cluster of three nodes on this machine. Tests can kill, freeze and restart the nodes."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from crew.cli.broker import epmd
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import HOST, NodeFolder
from tests.support.shared_node import stopper

SIZE = 3
NET_TICK = 4  # seconds until a silent node counts as down, plus or minus a quarter
CONF = (
    "cluster_formation.peer_discovery_backend = classic_config",
    *(f"cluster_formation.classic_config.nodes.{number} = crew{number}@{HOST}" for number in range(1, SIZE + 1)),
    # The first node waits for the others to find a cluster, and the others wait for the first: 5 s by default.
    "cluster_formation.discovery_retry_interval = 100",  # milliseconds
    "cluster_formation.discovery_retry_limit = 2",
    f"net_ticktime = {NET_TICK}",
    # A node that was frozen sees the others again, and does not know that it was in a minority: with pause_minority
    # (3.10) the cluster stays partitioned. Quorum queues do not depend on this setting, and Khepri (4.3) ignores it.
    "cluster_partition_handling = autoheal",
)


class Cluster:
    """Three nodes of one cluster.

    Attributes:
        nodes: in the order of `url`.
    """

    def __init__(self, folder: Path) -> None:
        names = [f"crew{number}" for number in range(1, SIZE + 1)]
        self.nodes = [Node(folder / name, conf=CONF, name=name, is_alone=False) for name in names]
        self._folders = [NodeFolder(folder / name, name=name, is_alone=False) for name in names]

    @property
    def url(self) -> str:
        """The URLs of all nodes, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start all nodes at the same time; they form a cluster."""
        first, *others = self._folders
        with first.locked():
            first.prepare(CONF)
        for folder in others:
            with folder.locked():
                folder.join(first)
        _all(Node.start, self.nodes)

    def kill(self) -> None:
        """Kill all nodes, in whatever state they are."""
        for node in self.nodes:
            node.kill()
        epmd.stop(self._folders[0].ports.epmd)

    def ask(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` on the first running node; returns its output."""
        return next(node for node in self.nodes if node.pid).ctl(*arguments, timeout=timeout)

    def node(self, name: str) -> Node:
        """The node with RabbitMQ's node name `name`, like "crew1@localhost"."""
        return next(node for folder, node in zip(self._folders, self.nodes, strict=True) if folder.node_name == name)

    def leader(self, queue: str) -> Node:
        """The node of the queue `queue`: the leader of a quorum queue, the only node of a classic queue."""
        for line in self.ask("list_queues", "name", "pid", "leader").splitlines():
            name, *places = line.split("\t")
            for folder, node in zip(self._folders, self.nodes, strict=True):
                if name == queue and any(folder.node_name in one for one in places):
                    return node
        raise AssertionError(f"no node has queue {queue}")

    @contextmanager
    def frozen(self, node: Node) -> Iterator[None]:
        """Freeze `node` during the block: for the other nodes this looks like a cut network."""
        pid = node.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def clustered(folder: Path) -> Iterator[Cluster]:
    """A running cluster, killed at the end of the block."""
    cluster = Cluster(folder)
    stoppers = [stopper(folder / f"crew{number}") for number in range(1, SIZE + 1)]
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
        for process in stoppers:
            process.communicate()


def _all(do: Callable[[Node], object], nodes: Iterable[Node]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(do, nodes))

"""A RabbitMQ cluster of three nodes on this machine, whose nodes die, freeze and come back as a test wants it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from crew.cli.broker import epmd
from crew.cli.broker.node import Node
from crew.cli.broker.node_folder import HOST, NodeFolder
from tests.support.broker import LEASH

SIZE = 3
NET_TICK = 4  # seconds until a node that says nothing counts as gone, give or take a quarter
CONF = (
    "cluster_formation.peer_discovery_backend = classic_config",
    *(f"cluster_formation.classic_config.nodes.{number} = crew{number}@{HOST}" for number in range(1, SIZE + 1)),
    # The first to start asks the others in vain for a cluster to join, while it holds them up: 5 s by default.
    "cluster_formation.discovery_retry_interval = 100",  # milliseconds
    "cluster_formation.discovery_retry_limit = 2",
    f"net_ticktime = {NET_TICK}",
    # A node that was frozen finds the others there, and does not know that it was in a minority: pause_minority (3.10)
    # leaves the three with two opinions for ever. Quorum queues do not depend on it, and Khepri (4.3) ignores it.
    "cluster_partition_handling = autoheal",
)


class Cluster:
    """Three nodes that know each other.

    Attributes:
        nodes: by their place in `url`.
    """

    def __init__(self, folder: Path) -> None:
        names = [f"crew{number}" for number in range(1, SIZE + 1)]
        self.nodes = [Node(folder / name, conf=CONF, name=name, is_alone=False) for name in names]
        self._folders = [NodeFolder(folder / name, name=name, is_alone=False) for name in names]

    @property
    def url(self) -> str:
        """All URLs, with commas between them."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start all nodes at once; they make a cluster of themselves."""
        first, *others = self._folders
        with first.locked():
            first.prepare(CONF)
        for folder in others:
            with folder.locked():
                folder.join(first)
        _all(Node.start, self.nodes)

    def kill(self) -> None:
        """End all of it, whatever state it is in."""
        for node in self.nodes:
            node.kill()
        epmd.stop(self._folders[0].ports.epmd)

    def ask(self, *arguments: str, timeout: float = 60.0) -> str:
        """What `rabbitmqctl` prints within `timeout` seconds, asked of the first node that runs."""
        return next(node for node in self.nodes if node.pid).ctl(*arguments, timeout=timeout)

    def node(self, name: str) -> Node:
        """The node that the broker calls `name`, like "crew1@localhost"."""
        return next(node for folder, node in zip(self._folders, self.nodes, strict=True) if folder.node_name == name)

    def leader(self, queue: str) -> Node:
        """The node that leads the quorum queue `queue`, or has the classic one."""
        for line in self.ask("list_queues", "name", "pid", "leader").splitlines():
            name, *told = line.split("\t")
            for folder, node in zip(self._folders, self.nodes, strict=True):
                if name == queue and any(folder.node_name in one for one in told):
                    return node
        raise AssertionError(f"no node has queue {queue}")

    @contextmanager
    def frozen(self, node: Node) -> Iterator[None]:
        """Nothing of `node` runs during the block: for the others as if its network was cut."""
        pid = node.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def clustered(folder: Path) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    cluster = Cluster(folder)
    leashes = [
        subprocess.Popen([sys.executable, "-c", LEASH, path], stdin=subprocess.PIPE, start_new_session=True)
        for path in (folder / f"crew{number}" for number in range(1, SIZE + 1))
    ]
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
        for leash in leashes:
            leash.communicate()


def _all(do: Callable[[Node], object], nodes: Iterable[Node]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(do, nodes))

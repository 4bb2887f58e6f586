"""A RabbitMQ node that several processes of the tests use: the first one starts it, and the last one stops it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from crew.cli.broker.node import Node
from tests.support.paths import ROOT

# A process whose standard input ends with the process of the tests, also where that is killed.
STOPPER = (
    "import pathlib, sys, tests.support.shared_node as n; sys.stdin.read(); n.stop_unused(pathlib.Path(sys.argv[1]))"
)


@contextmanager
def used_node(folder: Path, *, conf: Sequence[str] = ()) -> Iterator[Node]:
    """The running node in `folder`, started with additional lines of rabbitmq.conf if it is not running yet.

    It ends with the block, or with the process of the tests, unless another process still uses it.
    """
    folder.mkdir(exist_ok=True)
    node = Node(folder, conf=conf)
    with (
        stopper(folder),
        locked(folder / "users", LOCK_SH),
    ):
        node.start()
        yield node


def stopper(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process that stops the node in `folder` when its standard input ends, unless the node is used."""
    command: list[str | Path] = [sys.executable, "-c", STOPPER, folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=ROOT)


def stop_unused(folder: Path) -> None:
    """Stop the node in `folder` unless another process uses it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), locked(folder / "users", LOCK_EX | LOCK_NB):
        Node(folder).stop(timeout=0)  # its data is not needed, and a clean stop takes a second


@contextmanager
def locked(path: Path, how: int = LOCK_EX) -> Iterator[None]:
    """A lock among processes: `how` is an operation of flock(2)."""
    with path.open("a") as file:
        flock(file, how)
        yield

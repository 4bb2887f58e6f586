"""`crew dev`: broker, workers and gateway on one terminal, restarted when their sources change."""

import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from crew import settings
from crew.cli import source
from crew.cli.broker.node import Node
from crew.cli.dev.child import Child
from crew.cli.exit_status import exit_on_error
from crew.command_line import Count, print_line
from crew.errors import CrewError

if TYPE_CHECKING:
    from crew.testing.memory_node import MemoryNode

_CHECK_INTERVAL: Final = 0.5  # seconds between two checks of sources and processes
_POLL: Final = 0.05  # seconds until Ctrl-C is noticed
_NODE_DELAY: Final = 5.0  # seconds before RabbitMQ is started once more


@click.command("dev")
@click.argument("worker", metavar="WORKER")
@click.argument("flags", metavar="[-- FLAGS OF THE WORKER]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--gateway", metavar="FILE", help="script of the Tornado application; flags are possible: 'master.py --port=1'"
)
@click.option("--processes", type=Count(1), default=1, show_default=True, help="worker processes")
@click.option("--url", envvar="CREW_AMQP_URL", help="AMQP URL of the broker [CREW_AMQP_URL; else a private node]")
@click.option("--memory", is_flag=True, help="without RabbitMQ: an in-memory broker; its messages end with the command")
def command(
    *, worker: str, flags: tuple[str, ...], gateway: str | None, processes: int, url: str | None, memory: bool
) -> None:
    """Run broker, workers and gateway together during development.

    WORKER is a file or a module with tasks. Workers and gateway restart when a source (*.py) in their folder or below
    changes, and when they exit. Ctrl-C stops everything.
    """
    with exit_on_error():
        # -P: else a click.py in the working directory would replace the click that crew needs. The worker's own code
        # still imports from its own folder, as with `python FILE`, or from the working directory.
        worker_command = ["-P", "-m", "crew", "worker", worker, "--processes", str(processes), *flags]
        parts = [Part("worker", source.find(worker), worker_command)]
        if gateway:
            gateway_command = [gateway] if Path(gateway).is_file() else shlex.split(gateway)
            parts.append(Part("gateway", source.find(gateway_command[0]), gateway_command))
        Dev(url, parts, memory=memory).run()


class Part(NamedTuple):
    """A process that runs beside the broker.

    Attributes:
        name: "worker" or "gateway".
        code: the user's file or module.
        arguments: the command line of Python.
    """

    name: str
    code: source.Source
    arguments: list[str]


class Dev:
    """Runs broker, workers and gateway until a signal.

    Args:
        url: of the broker; None starts a private node, if it is not running.
        parts: the other processes in the order of their start; they stop in reverse order.
        memory: use an in-memory broker, whatever `url` is.
    """

    def __init__(self, url: str | None, parts: list[Part], *, memory: bool = False) -> None:
        self._url = url
        self._parts = parts
        self._memory = _memory_node() if memory else None
        self._node = None if url or memory else Node()
        self._is_our_node = False
        self._check_node_at = 0.0  # time.monotonic()
        self._children: list[Child] = []
        self._signals = 0  # the first one stops; the second one skips the waiting

    def run(self) -> None:
        """Run everything until SIGINT, SIGTERM or SIGHUP."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            while not self._signals:
                self._wait()
                self._check()
        except CrewError:
            if not self._signals:  # else a signal has canceled the start of RabbitMQ
                raise
        finally:
            self._stop()

    def _start(self) -> None:
        broker = settings.load(self._start_broker())
        environment = {**settings.environment_for_child(broker), "PYTHONUNBUFFERED": "1"}  # shows prints at once
        for part in self._parts:
            command = [sys.executable, *part.arguments]
            child = Child(
                f"{part.name} {part.code.name}",
                command,
                environment=environment,
                folder=part.code.folder,
                report=_report,
            )
            self._children.append(child)
            child.start()
        _report("press Ctrl-C to stop everything")

    def _start_broker(self) -> str | None:
        """Start the broker, unless it runs elsewhere; returns its URL, None: that of the settings."""
        if self._memory:
            url = self._memory.start()
            _report("broker: in memory; its messages end with this command")
            for line in self._memory.how_to_reach:
                _report(line)
            return url
        if self._node:
            _report("starting RabbitMQ")
            self._start_node(self._node)
        _report(f"broker: {settings.redacted(settings.load(self._node.url if self._node else self._url).urls)}")
        return self._node.url if self._node else self._url

    def _wait(self) -> None:
        until = time.monotonic() + _CHECK_INTERVAL
        while time.monotonic() < until and not self._signals:
            time.sleep(_POLL)

    def _check(self) -> None:
        if self._node and not self._node.pid and time.monotonic() > self._check_node_at:
            _report("RabbitMQ exited: restarting it")
            try:
                self._start_node(self._node)
            except CrewError as error:
                _report(f"{error}; retrying in {_NODE_DELAY:g} s")
                self._check_node_at = time.monotonic() + _NODE_DELAY
        for child in self._children:
            child.check()

    def _start_node(self, node: Node) -> None:
        self._is_our_node |= node.start(is_canceled=lambda: self._signals > 0)

    def _stop(self) -> None:
        """Stop the gateway first, as it calls tasks; then the workers; then the broker, if this command started it."""
        _report("stopping")
        for child in reversed(self._children):
            child.stop(skip_waiting=lambda: self._signals > 1)
        if self._node and self._is_our_node:
            self._node.stop()
        if self._memory:
            self._memory.stop()
        _report("everything stopped")

    def _on_signal(self, *_: object) -> None:
        self._signals += 1


def _memory_node() -> "MemoryNode":
    from crew.testing.memory_node import MemoryNode  # with the AMQP stack, which this command does not need otherwise

    return MemoryNode()


def _report(sentence: str) -> None:
    with suppress(OSError):  # the terminal is closed: the processes must be stopped nevertheless
        print_line(f"crew dev: {sentence}")

"""`crew dev`: everything that runs together, on one terminal, for whoever writes it."""

import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import click

from crew import settings
from crew.cli import source
from crew.cli.broker.node import Node
from crew.cli.dev.child import Child
from crew.cli.exit_status import reported
from crew.command_line import Count, say
from crew.errors import CrewError

_LOOK: Final = 0.5  # seconds between two looks at sources and processes
_POLL: Final = 0.05  # seconds until Ctrl-C is noticed
_NODE_DELAY: Final = 5.0  # seconds before another attempt to start RabbitMQ


@click.command("dev")
@click.argument("worker", metavar="WORKER")
@click.argument("flags", metavar="[-- FLAGS OF THE WORKER]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--gateway", metavar="FILE", help="a script, the Tornado application; may have flags: 'master.py --port=1'"
)
@click.option("--processes", type=Count(1), default=1, show_default=True, help="worker processes")
@click.option("--url", envvar="CREW_AMQP_URL", help="AMQP URL of the broker [CREW_AMQP_URL, else a private node]")
def command(*, worker: str, flags: tuple[str, ...], gateway: str | None, processes: int, url: str | None) -> None:
    """Run broker, workers and gateway together while you write them.

    WORKER is a file or a module with tasks. Workers and gateway start again when a source (*.py) beside them or below
    changes, and when they end by themselves. Ctrl-C stops all of it.
    """
    with reported():
        # -P: else a click.py in the working directory would be imported in place of the click that crew needs. What the
        # worker's own code imports is looked for beside it, as `python FILE` does, or in the working directory.
        worker_command = ["-P", "-m", "crew", "worker", worker, "--processes", str(processes), *flags]
        parts = [Part("worker", source.find(worker), worker_command)]
        if gateway:
            gateway_command = [gateway] if Path(gateway).is_file() else shlex.split(gateway)
            parts.append(Part("gateway", source.find(gateway_command[0]), gateway_command))
        Dev(url, parts).run()


class Part(NamedTuple):
    """What runs beside the broker.

    Attributes:
        name: "worker" or "gateway".
        code: the user's.
        arguments: of Python.
    """

    name: str
    code: source.Source
    arguments: list[str]


class Dev:
    """Broker, workers and gateway.

    Args:
        url: of the broker; None starts a private node, unless it runs already.
        parts: the others, in the order in which they start; they stop the other way round.
    """

    def __init__(self, url: str | None, parts: list[Part]) -> None:
        self._url = url
        self._parts = parts
        self._node = None if url else Node()
        self._is_our_node = False
        self._look_at_node_at = 0.0  # time.monotonic()
        self._children: list[Child] = []
        self._signals = 0  # the first one stops, the second one hurries

    def run(self) -> None:
        """Run it all until SIGINT, SIGTERM or SIGHUP."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            while not self._signals:
                self._wait()
                self._look()
        except CrewError:
            if not self._signals:  # or it is the start that was given up
                raise
        finally:
            self._stop()

    def _start(self) -> None:
        if self._node:
            _say("starting RabbitMQ")
            self._start_node(self._node)
        broker = settings.load(self._node.url if self._node else self._url)
        _say(f"broker {settings.redacted(broker.urls)}")
        environment = {**settings.environment_for_child(broker), "PYTHONUNBUFFERED": "1"}  # prints are seen at once
        for part in self._parts:
            command = [sys.executable, *part.arguments]
            child = Child(
                f"{part.name} {part.code.name}", command, environment=environment, folder=part.code.folder, say=_say
            )
            self._children.append(child)
            child.start()
        _say("Ctrl-C stops all of it")

    def _wait(self) -> None:
        until = time.monotonic() + _LOOK
        while time.monotonic() < until and not self._signals:
            time.sleep(_POLL)

    def _look(self) -> None:
        if self._node and not self._node.pid and time.monotonic() > self._look_at_node_at:
            _say("RabbitMQ has ended: it starts again")
            try:
                self._start_node(self._node)
            except CrewError as error:
                _say(str(error))
                self._look_at_node_at = time.monotonic() + _NODE_DELAY
        for child in self._children:
            child.look()

    def _start_node(self, node: Node) -> None:
        self._is_our_node |= node.start(given_up=self._is_told)

    def _stop(self) -> None:
        """The gateway first, which calls; then the workers; then the broker, if it is ours."""
        _say("stopping")
        for child in reversed(self._children):
            child.stop(hurry=self._is_hurried)
        if self._node and self._is_our_node:
            self._node.stop()
        _say("all has stopped")

    def _is_told(self) -> bool:
        return self._signals > 0

    def _is_hurried(self) -> bool:
        return self._signals > 1

    def _on_signal(self, *_: object) -> None:
        self._signals += 1


def _say(sentence: str) -> None:
    with suppress(OSError):  # the terminal has been closed: what runs has to be stopped all the same
        say(f"crew dev: {sentence}")

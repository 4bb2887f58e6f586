"""`crew broker`: the private RabbitMQ node from the shell."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crew.cli.broker.node import Node, Status
from crew.cli.exit_status import reported
from crew.command_line import Group, Seconds, say
from crew.settings import PRIVATE_NODE_URL, redacted

F = TypeVar("F", bound=Callable[..., Any])


def _folder_option(command: F) -> F:
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=PRIVATE_NODE_URL.parent,
        show_default=True,
        help="where the node keeps everything; clients and workers look for it in the default one",
    )(command)


@click.group("broker", cls=Group)
def command() -> None:
    """Run a private RabbitMQ node in this folder.

    It needs no root and listens on 127.0.0.1 only. Clients and workers that are started from this folder find it,
    unless CREW_AMQP_URL or --url names another broker. It runs on until `crew broker stop`.
    """


@command.command("start")
@_folder_option
@click.option("--timeout", type=Seconds(0, min_open=True), default=60.0, show_default=True, help="seconds")
def start(*, folder: Path, timeout: float) -> None:
    """Start the node, unless it runs, and wait until it answers."""
    node = Node(folder)
    with reported():
        node.start(timeout)
        say(f"RabbitMQ runs at {redacted((node.url,))} (process {node.pid}); its URL is in {folder / 'url'}")


@command.command("stop")
@_folder_option
def stop(*, folder: Path) -> None:
    """Stop the node, and all processes of it; queues and persistent messages stay."""
    with reported():
        say("RabbitMQ has stopped" if Node(folder).stop() else "RabbitMQ was not running")


@command.command("status")
@_folder_option
def status(*, folder: Path) -> None:
    """Tell whether the node runs; the exit status is 0 where it does, else 1."""
    node = Node(folder)
    with reported():
        found = node.status
        if found is Status.STOPPED:
            say("RabbitMQ is not running")
        elif found is Status.STARTING:
            say(f"RabbitMQ does not answer yet (process {node.pid})")
        else:
            say(f"RabbitMQ runs at {redacted((node.url,))} (process {node.pid})")
    sys.exit(found is not Status.RUNNING)

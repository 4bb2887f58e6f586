"""`crew broker`: start, stop and check a private RabbitMQ node."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crew.cli.broker.node import Node, Status
from crew.cli.exit_status import exit_on_error
from crew.command_line import DurationType, Group, print_line
from crew.settings import PRIVATE_NODE_URL, redacted

F = TypeVar("F", bound=Callable[..., Any])


def _folder_option(command: F) -> F:
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=PRIVATE_NODE_URL.parent,
        show_default=True,
        help="folder of the node's data and settings; clients and workers search the default folder only",
    )(command)


@click.group("broker", cls=Group)
def command() -> None:
    """Run a private RabbitMQ node in this folder.

    The node needs no root and listens on 127.0.0.1 only. Clients and workers started in this folder connect to it,
    unless CREW_AMQP_URL or --url names another broker. The node runs until `crew broker stop`.
    """


@command.command("start")
@_folder_option
@click.option(
    "--timeout",
    type=DurationType(),
    default=60.0,
    show_default=True,
    help="how long to wait for the node: seconds, or text like 2m",
)
def start(*, folder: Path, timeout: float) -> None:
    """Start the node if it is not running, and wait until it accepts connections."""
    node = Node(folder)
    with exit_on_error():
        node.start(timeout)
        print_line(f"RabbitMQ is running at {redacted((node.url,))} (pid {node.pid}); its URL is in {folder / 'url'}")


@command.command("stop")
@_folder_option
def stop(*, folder: Path) -> None:
    """Stop the node and all its processes. Queues and persistent messages stay on disk."""
    with exit_on_error():
        print_line("RabbitMQ stopped" if Node(folder).stop() else "RabbitMQ was not running")


@command.command("status")
@_folder_option
def status(*, folder: Path) -> None:
    """Print whether the node is running. The exit status is 0 if it is, else 1."""
    node = Node(folder)
    with exit_on_error():
        found = node.status
        if found is Status.STOPPED:
            print_line("RabbitMQ is not running")
        elif found is Status.STARTING:
            print_line(f"RabbitMQ is starting: it does not accept connections yet (pid {node.pid})")
        else:
            print_line(f"RabbitMQ is running at {redacted((node.url,))} (pid {node.pid})")
    sys.exit(found is not Status.RUNNING)

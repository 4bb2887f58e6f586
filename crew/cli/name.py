"""Names of tasks and topics on a command line: an invalid name is exit_on_error as wrong usage before a connection."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from crew.protocol import topology

F = TypeVar("F", bound=Callable[..., Any])


def task_argument(command: F) -> F:
    """Add TASK."""
    return click.argument("task", callback=_checked)(command)


def topic_argument(command: F) -> F:
    """Add TOPIC."""
    return click.argument("topic", callback=_checked)(command)


def topics_argument(command: F) -> F:
    """Add TOPIC..., one or more."""
    return click.argument("topics", metavar="TOPIC...", nargs=-1, required=True, callback=_checked)(command)


def _checked(_: click.Context, __: click.Parameter, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    for name in (value,) if isinstance(value, str) else value:
        try:
            topology.check_name("it", name)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value

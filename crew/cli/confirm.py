"""A question before something that cannot be undone."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from crew.command_line import say
from crew.errors import SettingsError

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(command: F) -> F:
    """Add --yes."""
    return click.option("--yes", is_flag=True, help="do not ask")(command)


def confirm(question: str) -> None:
    """Ask on the terminal, or take the answer from a pipe: `yes | crew ...`.

    Raises:
        click.Abort: the answer is no.
        SettingsError: there is neither terminal nor answer.
    """
    if sys.stdin.isatty():
        click.confirm(question, abort=True)
        return
    answer = sys.stdin.readline()
    if not answer:
        raise SettingsError(f"there is no terminal to ask {question!r}: add --yes")
    say(f"{question} [y/N]: {answer.strip()}")
    if answer.strip().lower() not in ("y", "yes"):
        raise click.Abort

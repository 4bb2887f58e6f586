"""Asks for confirmation before a command deletes or sends messages."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from crew.command_line import print_line
from crew.errors import SettingsError

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(command: F) -> F:
    """Add --yes."""
    return click.option("--yes", is_flag=True, help="do not ask for confirmation")(command)


def confirm(question: str) -> None:
    """Ask on the terminal, or read the answer from a pipe: `yes | crew ...`.

    Raises:
        click.Abort: the answer is no.
        SettingsError: there is no terminal and no answer on standard input.
    """
    if sys.stdin.isatty():
        click.confirm(question, abort=True)
        return
    answer = sys.stdin.readline()
    if not answer:
        raise SettingsError(f"cannot ask {question!r}: standard input is no terminal; add --yes")
    print_line(f"{question} [y/N]: {answer.strip()}")
    if answer.strip().lower() not in ("y", "yes"):
        raise click.Abort

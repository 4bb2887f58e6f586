"""`crew` and the list of its commands."""

import inspect
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from crew import __version__
from crew.cli import COMMANDS, main


def test_help_lists_every_command_with_what_it_does() -> None:
    result = CliRunner().invoke(main, ["--help"])

    assert result.exit_code == 0
    assert all(name in result.output and sentence in result.output for name, sentence in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_the_first_sentence_of_each_commands_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)

    assert command is not None
    assert command.name == name
    assert inspect.cleandoc(command.help or "").partition("\n\n")[0] == COMMANDS[name]


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["nonsense"])

    assert result.exit_code == 2
    assert "nonsense" in result.output


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"crew, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--help"], ["pika", "tornado", "crew.client"]),
        (["worker", "--help"], ["tornado"]),
        (["call", "-h"], ["tornado"]),
    ],
)
def test_a_command_loads_no_more_than_it_needs(arguments: list[str], unused: list[str]) -> None:
    script = f"""
import sys
from crew.cli import main
main({arguments}, standalone_mode=False)
sys.exit(", ".join(name for name in {unused} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""

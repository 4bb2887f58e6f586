"""The `crew` command. Each sub-command is a module or a package, imported when it is used: `crew --help` is quick."""

from importlib import import_module
from typing import Final

import click

from crew import __version__
from crew.command_line import Group

COMMANDS: Final = {
    "worker": "Serve the tasks of a file or a module, or URL jobs.",
    "gateway": "Serve calls and jobs over HTTP.",
    "call": "Call a task, and print its value as JSON.",
    "publish": "Publish on a topic.",
    "subscribe": "Print the events of topics, one line of JSON each.",
    "parked": "Look after the messages that were given up.",
    "jobs": "Look after jobs: calls that outlive the request.",
    "queues": "Look after the queues of tasks.",
    "broker": "Run a private RabbitMQ node in this folder.",
    "dev": "Run broker, workers and gateway together while you write them.",
}
_PACKAGES: Final = frozenset({"broker", "dev", "jobs", "parked"})


class _Commands(Group):
    """Sub-commands by name: `command` in crew.cli.<name>, or in crew.cli.<name>.command where that is a package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"crew.cli.{cmd_name}.command" if cmd_name in _PACKAGES else f"crew.cli.{cmd_name}"
        command: click.Command = import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above: asking the commands themselves would load them all."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crew")
def main() -> None:
    """Call tasks in worker processes over RabbitMQ.

    The broker is the one that --url or CREW_AMQP_URL names; without both, the one that `crew broker start` runs from
    this folder; else amqp://guest:guest@127.0.0.1:5672/
    """

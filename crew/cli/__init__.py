"""The `crew` command. Sub-commands are modules or packages, imported on first use to keep `crew --help` fast."""

from importlib import import_module
from typing import Final

import click

from crew import __version__
from crew.command_line import Group

COMMANDS: Final = {
    "worker": "Serve the tasks of a file or a module, or URL jobs.",
    "gateway": "Serve calls and jobs over HTTP.",
    "call": "Call a task and print its result as JSON.",
    "submit": "Submit a job and print its id; with --wait its result.",
    "publish": "Publish an event on a topic.",
    "subscribe": "Print the events of topics, one line of JSON each.",
    "parked": "List, show, replay or purge parked messages.",
    "jobs": "List, show, wait for, cancel, retry or purge jobs.",
    "tasks": "Show the tasks of a worker script, with their parameters.",
    "queues": "Migrate the queues of tasks.",
    "broker": "Run a private RabbitMQ node in this folder.",
    "dev": "Run broker, workers and gateway together during development.",
}
_PACKAGES: Final = frozenset({"broker", "dev", "jobs", "parked", "tasks"})


class _Commands(Group):
    """Loads sub-commands by name: `command` in crew.cli.<name>, or in crew.cli.<name>.command for a package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"crew.cli.{cmd_name}.command" if cmd_name in _PACKAGES else f"crew.cli.{cmd_name}"
        command: click.Command = import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table above: the help of the commands themselves would need the import of all of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crew")
def main() -> None:
    """Call tasks in worker processes over RabbitMQ.

    The broker's address is the first of these: --url, CREW_AMQP_URL, the private node that `crew broker start` runs
    in this folder, amqp://guest:guest@127.0.0.1:5672/
    """

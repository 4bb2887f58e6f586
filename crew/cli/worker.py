"""`crew worker`: serve the tasks of a file or a module, URL jobs, or both."""

import sys
from typing import Any, Final

import click

from crew.cli import source
from crew.cli.exit_status import reported
from crew.command_line import complain, say
from crew.errors import SettingsError
from crew.worker.options import worker_options
from crew.worker.run import start

_CANNOT_RUN: Final = 78  # EX_CONFIG of sysexits.h, as run() has it for what no other attempt would mend


class _KeepsArguments(click.Command):
    """Leaves the arguments as they came in `ctx.obj`, for a script that parses them again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        return super().parse_args(ctx, args)


@click.command("worker", cls=_KeepsArguments)
@click.argument("name", metavar="[FILE_OR_MODULE]", required=False)
@worker_options
@click.pass_context
def command(ctx: click.Context, /, *, name: str | None, **flags: Any) -> None:
    """Serve the tasks of a file or a module, or URL jobs.

    It is run as `python FILE` or `python -m MODULE` would run it: where it calls run(), with the settings there; else
    its tasks are served without settings. The exit status is 0 after a drain, 2 after wrong usage, 70 where nothing
    could start, 78 where no other attempt would help: a refused login, two tasks of one name, a file that cannot run.
    """
    if name is None and not flags["http"]:
        raise click.UsageError("Missing argument 'FILE_OR_MODULE', or --http to serve URL jobs alone.")
    with reported():
        if name is not None:
            _run_code(name, ctx.obj)
        sys.exit(start({}, **flags))


def _run_code(name: str, arguments: list[str]) -> None:
    """Does not come back where it calls run()."""
    arguments.remove(name)
    code = source.find(name)
    try:
        code.run(arguments)
    except SettingsError:
        raise
    except Exception as error:
        say(code.traceback_of(error), err=True)
        complain(f"{name} cannot be run")
        sys.exit(_CANNOT_RUN)

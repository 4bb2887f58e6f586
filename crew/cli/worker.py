"""`crew worker`: serve the tasks of a file or a module, URL jobs, or both."""

import sys
from typing import Any, Final

import click

from crew.cli import source
from crew.cli.exit_status import exit_on_error
from crew.command_line import print_error, print_line
from crew.errors import SettingsError
from crew.worker.command import start
from crew.worker.options import worker_options

_CANNOT_RUN: Final = 78  # EX_CONFIG of sysexits.h: run() uses it for errors that a retry cannot fix


class _KeepsArguments(click.Command):
    """Keeps the unparsed arguments in `ctx.obj`, for a script that parses them itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        return super().parse_args(ctx, args)


@click.command("worker", cls=_KeepsArguments)
@click.argument("name", metavar="[FILE_OR_MODULE]", required=False)
@worker_options
@click.pass_context
def command(ctx: click.Context, /, *, name: str | None, **flags: Any) -> None:
    """Serve the tasks of a file or a module, or URL jobs.

    The code is run as `python FILE` or `python -m MODULE` does. If it calls run(), the settings of that call apply;
    else its tasks are served with default settings.

    Exit status: 0 after a drain, 2 after wrong usage, 70 if no worker process could start, 78 after an error that a
    restart cannot fix: a refused login, two tasks with the same name, a file that cannot be run.
    """
    if name is None and not flags["http"]:
        raise click.UsageError("Missing argument 'FILE_OR_MODULE'; to serve only URL jobs, use --http.")
    with exit_on_error():
        if name is not None:
            _run_code(name, ctx.obj)
        sys.exit(start({}, **flags))


def _run_code(name: str, arguments: list[str]) -> None:
    """Run the user's code. Does not return if that calls run()."""
    arguments.remove(name)
    code = source.find(name)
    try:
        code.run(arguments)
    except SettingsError:
        raise
    except Exception as error:
        print_line(code.traceback_of(error), err=True)
        print_error(f"{name} failed with the error above: fix it, and start the worker again")
        sys.exit(_CANNOT_RUN)

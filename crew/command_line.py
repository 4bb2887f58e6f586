"""What all command lines of crew have in common: `crew` with its commands, and the flags of a worker script.

A mistake of the user, a closed output or a full disk ends them with one sentence on stderr, which begins with `crew: `,
and with an exit status; never with a traceback.
"""

import difflib
import errno
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import click

from crew.escape import escaped, escaped_json, escaped_lines

EXIT_USAGE: Final = 2  # click's own status for a wrong command line
EXIT_IO: Final = 74  # EX_IOERR of sysexits.h: output or a file cannot be written
EXIT_INTERRUPTED: Final = 130  # as shells have it for Ctrl-C: 128 + SIGINT
_HELP: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())  # of newer versions of click, and no error
_ALIKE: Final = 0.6  # of 1.0: how similar a word must be to be suggested
_OF_OUTPUT: Final = {errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_NOT_ALLOWED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def say(text: str, *, err: bool = False) -> None:
    """Write `text` and the end of a line to stdout, or to stderr; unprintable characters are escaped.

    Everything that a command prints goes this way, or that of `say_json` and `say_bytes`: it may come from anybody who
    can send a message.
    """
    click.echo(escaped_lines(text), err=err)


def say_json(value: bytes) -> None:
    """Write `value`, JSON in one line, to stdout at once; unprintable characters are escaped as JSON has it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(escaped_json(value.decode()).encode() + b"\n")
    sys.stdout.flush()


def say_bytes(value: bytes) -> None:
    """Write `value` to stdout at once: as it is into a file or a pipe, and to a terminal as escaped text."""
    if sys.stdout.isatty():
        value = escaped_lines(value.decode(errors="backslashreplace")).encode(sys.stdout.encoding, "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.flush()


def complain(sentence: str) -> None:
    """Write an error, or a warning, to stderr in one line; all of them look alike."""
    with suppress(OSError):  # stderr is full or closed, too: the exit status is left
        say(f"crew: {escaped(sentence)}", err=True)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about a `word` that is not one of those `known`: the nearest of them, or ""."""
    near = difflib.get_close_matches(word, known, n=3, cutoff=_ALIKE)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


class Command(click.Command):
    """A command that is a whole program: `main` is where its process begins and ends."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As `click.Command.main`, with crew's own ends."""

        def run() -> Any:
            return super(Command, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if standalone_mode:
            _open_closed_streams()
            sys.exit(_status(run))
        return run()


class Group(Command, click.Group):
    """Commands by name; for a name that is none, the nearest one is suggested."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first of `args` names."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"No such command {name!r}.{did_you_mean(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


class Count(click.IntRange):
    """A whole number between bounds; a refusal says which, in words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` as an int."""
        return _converted(super().convert, "a whole number", self, value, param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds between bounds; a refusal says which, in words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` as a float."""
        return _converted(super().convert, "a number of seconds", self, value, param, ctx)


def _converted(
    convert: Callable[..., Any],
    kind: str,
    bounds: click.IntRange | click.FloatRange,
    value: Any,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> Any:
    with suppress(click.BadParameter):
        if not math.isnan(number := convert(value, param, ctx)):
            return number
    raise click.BadParameter(f"it must be {kind}{_between(bounds)}, not {value!r}", ctx, param)


def _between(bounds: click.IntRange | click.FloatRange) -> str:
    least = "" if bounds.min is None else f"{'above' if bounds.min_open else 'from'} {bounds.min:g}"
    if bounds.max is None:
        return f" {least}{'' if bounds.min_open else ' on'}" if least else ""
    return f" {least} {'and at most' if bounds.min_open else 'to'} {bounds.max:.0f}"


# --- how a process begins and ends ----------------------------------------------------------------------------------


def _status(run: Callable[[], Any]) -> Any:
    """What `sys.exit` is given in the end."""
    try:
        try:
            status = run()
        except SystemExit as ended:
            if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):  # click has met the broken pipe
                raise BrokenPipeError from None
            status = ended.code
        sys.stdout.flush()
    except click.ClickException as error:
        _explain(error)
        return error.exit_code
    except click.Abort as aborted:
        if isinstance(aborted.__cause__, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        complain("aborted")
        return 1
    except BrokenPipeError:  # the reader of our output has enough of it: `crew ... | head -1`
        _discard(sys.stdout)
        return 0
    except OSError as error:
        if not (sentence := _sentence(error)):
            raise
        complain(sentence)
        _discard(sys.stdout)
        return EXIT_IO
    return status


def _explain(error: click.ClickException) -> None:
    """As click does, with our prefix."""
    if isinstance(error, _HELP):
        error.show()
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        usage, path = error.ctx.get_usage(), error.ctx.command_path
        hint = f"Try '{path} {error.ctx.help_option_names[-1]}' for help.\n" if error.ctx.help_option_names else ""
        with suppress(OSError):
            say(f"{usage}\n{hint}", err=True)
    with suppress(OSError):
        say(f"crew: {error.format_message()}", err=True)


def _sentence(error: OSError) -> str | None:
    """What a user can do something about; None: a bug, whose traceback is wanted."""
    why = (error.strerror or str(error)).lower()
    if error.filename is not None:
        advice = "; run crew in a folder in which you may write" if error.errno in _NOT_ALLOWED else ""
        return f"cannot use {os.fsdecode(error.filename)}: {why}{advice}"
    return f"cannot write: {why}" if error.errno in _OF_OUTPUT else None


def _open_closed_streams() -> None:
    """Open /dev/null in place of what the shell has closed (`>&-`), before a socket or a file gets its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _null(number, mode))


def _null(number: int, mode: str) -> IO[str]:
    with suppress(OSError):
        os.fstat(number)
        return Path(os.devnull).open(mode)  # somebody else has the number already
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)
    return open(number, mode)


def _discard(stream: IO[str]) -> None:
    """Have what is still buffered go to /dev/null, or Python complains of it at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""Shared parts of crew's command lines: the `crew` command, and the flags of a worker script.

Wrong usage, a closed output or a full disk ends a command with one line on stderr, which begins with `crew: `, and with
an exit status; never with a traceback.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import click

from crew.duration import MAX_DURATION, parse_duration
from crew.escape import escaped, escaped_json, escaped_lines

EXIT_USAGE: Final = 2  # click's own status for a wrong command line
EXIT_IO: Final = 74  # EX_IOERR of sysexits.h: output or a file cannot be written
EXIT_INTERRUPTED: Final = 130  # the shells' status after Ctrl-C: 128 + SIGINT
_HELP: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())  # newer versions of click only; it is not an error
_SIMILARITY: Final = 0.6  # 0 to 1: how similar a name must be to be suggested
_OUTPUT_ERRORS: Final = {errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_PERMISSION_ERRORS: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def print_line(text: str, *, err: bool = False) -> None:
    """Print `text` and a newline to stdout or stderr; unprintable characters are escaped.

    Commands print only with this function, `print_json` and `print_bytes`: text may come from any sender of messages.
    """
    click.echo(escaped_lines(text), err=err)


def print_json(value: bytes) -> None:
    """Print `value`, JSON in one line, to stdout and flush; unprintable characters get JSON escapes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(escaped_json(value.decode()).encode() + b"\n")
    sys.stdout.flush()


def print_bytes(value: bytes) -> None:
    """Print `value` to stdout and flush: unchanged to a file or a pipe, as escaped text to a terminal."""
    if sys.stdout.isatty():
        value = escaped_lines(value.decode(errors="backslashreplace")).encode(sys.stdout.encoding, "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    sys.stdout.flush()


def print_error(sentence: str) -> None:
    """Print an error or a warning to stderr, in one line that begins with `crew: `."""
    with suppress(OSError):  # stderr is full or closed, too: only the exit status remains
        print_line(f"crew: {escaped(sentence)}", err=True)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for the end of an error about an unknown `word`: the most similar `known` words, or ""."""
    import difflib  # for errors only

    near = difflib.get_close_matches(word, known, n=3, cutoff=_SIMILARITY)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


class Command(click.Command):
    """A click command whose errors end the process with one line on stderr and an exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command, as `click.Command.main`, with crew's own error lines and exit statuses."""

        def run() -> Any:
            return super(Command, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if standalone_mode:
            _open_closed_streams()
            sys.exit(_exit_status(run))
        return run()


class Group(Command, click.Group):
    """Sub-commands by name; an error about an unknown name suggests similar ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The sub-command that the first of `args` names."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"No such command {name!r}.{did_you_mean(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


class Count(click.IntRange):
    """A whole number between bounds; an error names the bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` as an int."""
        with suppress(click.BadParameter):
            return super().convert(value, param, ctx)
        bounds = f", {self.min} or more" if self.max is None else f" from {self.min} to {self.max}"
        raise click.BadParameter(f"it must be a whole number{bounds}, not {value!r}", ctx, param)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A duration: seconds, or text like 10m. A command gets float seconds.

    Args:
        may_be_zero: accept 0, too.
        most: the longest duration, in seconds; default: a year.
    """

    name = "duration"

    def __init__(self, *, may_be_zero: bool = False, most: float = MAX_DURATION) -> None:
        self._may_be_zero = may_be_zero
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as seconds."""
        try:
            return parse_duration("it", value, may_be_zero=self._may_be_zero, most=self._most)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None


# --- standard streams and exit status ---------------------------------------------------------------------------------


def _exit_status(run: Callable[[], Any]) -> Any:
    """Run the command; returns the argument for `sys.exit`."""
    try:
        try:
            status = run()
        except SystemExit as ended:
            if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):  # click has handled a broken pipe
                raise BrokenPipeError from None
            status = ended.code
        sys.stdout.flush()
    except click.ClickException as error:
        _print_click_error(error)
        return error.exit_code
    except click.Abort as aborted:
        if isinstance(aborted.__cause__, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        print_error("aborted")
        return 1
    except BrokenPipeError:  # the reader of our output has ended: `crew ... | head -1`
        _discard(sys.stdout)
        return 0
    except OSError as error:
        if not (text := _os_error_text(error)):
            raise
        print_error(text)
        _discard(sys.stdout)
        return EXIT_IO
    return status


def _print_click_error(error: click.ClickException) -> None:
    """Print `error` as click does, with crew's prefix."""
    if isinstance(error, _HELP):
        error.show()
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        usage, path = error.ctx.get_usage(), error.ctx.command_path
        hint = f"Try '{path} {error.ctx.help_option_names[-1]}' for help.\n" if error.ctx.help_option_names else ""
        with suppress(OSError):
            print_line(f"{usage}\n{hint}", err=True)
    with suppress(OSError):
        print_line(f"crew: {error.format_message()}", err=True)


def _os_error_text(error: OSError) -> str | None:
    """An error that the user can fix; None: a bug, which needs a traceback."""
    why = (error.strerror or str(error)).lower()
    if error.filename is not None:
        advice = "; run crew in a folder where you have write permission" if error.errno in _PERMISSION_ERRORS else ""
        return f"cannot use {os.fsdecode(error.filename)}: {why}{advice}"
    return f"cannot write the output: {why}" if error.errno in _OUTPUT_ERRORS else None


def _open_closed_streams() -> None:
    """Open /dev/null for standard streams that the shell has closed (`>&-`), before a socket gets their descriptor."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _null(number, mode))


def _null(number: int, mode: str) -> IO[str]:
    with suppress(OSError):
        os.fstat(number)
        return Path(os.devnull).open(mode)  # the descriptor is already in use
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)
    return open(number, mode)


def _discard(stream: IO[str]) -> None:
    """Redirect the buffered rest of the output to /dev/null, else Python prints an error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""The JSON that a command is given, and the JSON that it prints."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from crew.command_line import say_bytes, say_json

F = TypeVar("F", bound=Callable[..., Any])


def json_argument(command: F) -> F:
    """Add [JSON], which arrives decoded as `data`; `-` reads it from standard input."""
    return click.argument("data", metavar="[JSON]", required=False, callback=_decode)(command)


def encode(value: Any) -> bytes:
    """`value` as JSON; bytes as they are. What JSON has no word for becomes a string, bytes inside it base64."""
    return value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=str)


def write_line(value: Any) -> None:
    """Print `value` at once, also into a pipe: as JSON, or bytes as they are, but for a terminal."""
    if isinstance(value, bytes):
        say_bytes(value)
    else:
        say_json(encode(value))


def _decode(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(
            sys.stdin.buffer.read() if text == "-" else text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        )
    except ValueError as error:
        hint = "" if text == "-" else f"""; a string needs quotes of its own: '"{text}"'"""
        raise click.BadParameter(f"it is no JSON ({error}){hint}") from None

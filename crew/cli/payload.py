"""JSON on a command line: the argument of a command, and the values that it prints."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from crew.command_line import print_bytes, print_json

F = TypeVar("F", bound=Callable[..., Any])


def json_argument(command: F) -> F:
    """Add [JSON], which is decoded and passed as `payload`; `-` reads it from standard input."""
    return click.argument("payload", metavar="[JSON]", required=False, callback=_decode)(command)


def encode(value: Any) -> bytes:
    """`value` as JSON, or bytes unchanged. Types that JSON lacks become strings; bytes inside `value` become base64."""
    return value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=str)


def write_line(value: Any) -> None:
    """Print `value` and flush: JSON in one line; bytes unchanged, but escaped on a terminal."""
    if isinstance(value, bytes):
        print_bytes(value)
    else:
        print_json(encode(value))


def _decode(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(
            sys.stdin.buffer.read() if text == "-" else text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        )
    except ValueError as error:
        hint = "" if text == "-" else f"""; a string needs its own quotes: '"{text}"'"""
        raise click.BadParameter(f"it is not valid JSON ({error}){hint}") from None

"""JSON on a command line: the argument of a command, and the values that it prints."""

from datetime import UTC, datetime
from typing import Any

import click
import pytest
from click.testing import CliRunner

from crew.cli.payload import encode, json_argument, write_line


@click.command()
@json_argument
def command(payload: Any) -> None:
    write_line([payload])


@pytest.mark.parametrize("text", ["null", "1", '"a"', '{"a":[1.5,true]}', "-1"])
def test_a_json_argument_is_decoded(text: str) -> None:
    arguments = ["--", text] if text.startswith("-") else [text]

    assert CliRunner().invoke(command, arguments).output == f"[{text}]\n"


def test_without_an_argument_the_payload_is_none() -> None:
    assert CliRunner().invoke(command, []).output == "[null]\n"


def test_with_a_dash_the_payload_is_read_from_standard_input() -> None:
    assert CliRunner().invoke(command, ["-"], input='{"a":\n"ü"}').output == '[{"a":"ü"}]\n'


def test_an_error_about_a_string_without_quotes_shows_the_quotes() -> None:
    result = CliRunner().invoke(command, ["hello"])

    assert result.exit_code == 2
    assert """a string needs its own quotes: '"hello"'""" in " ".join(result.output.split())


def test_invalid_json_on_standard_input_is_a_usage_error() -> None:
    result = CliRunner().invoke(command, ["-"], input="{")

    assert result.exit_code == 2
    assert "not valid JSON" in result.output


def test_bytes_are_printed_unchanged() -> None:
    assert encode(b"\x00\xff") == b"\x00\xff"


def test_values_that_json_cannot_encode_become_strings() -> None:
    assert encode({"at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\x00", "set": complex(1, 2)}) == (
        b'{"at":"2026-01-02T00:00:00Z","raw":"AA==","set":"(1+2j)"}'
    )

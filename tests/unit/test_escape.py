"""Printed foreign text cannot move the cursor, forge a log line, or change the order of text."""

import ast
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crew
from crew.escape import CONTINUED, continued, escaped, escaped_json, escaped_lines
from crew.log import Formatter, Lines

FORGED = "2026-01-01 00:00:00,000 INFO crew: all is well"
HOSTILE = [
    f"x\n{FORGED}",
    f"x\r{FORGED}",
    f"x\r\n{FORGED}",
    "\x1b[2J\x1b]0;title\x07",  # clears the screen, sets a title
    "\x9b2J\x85",  # the same with C1 controls; next line
    "\u202egnp.exe\u2066",  # bidi
    "\u2028x\u2029",  # line ends for some programs
    "\0\x08\x7f\ufeff\u200b",
    "\ud800",  # a lone surrogate
]
everything = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec=None)))


class Liar(Exception):
    """An exception with foreign name and text."""

    def __repr__(self) -> str:
        return f"<Liar {self}>"


def lines_of(record: str) -> list[str]:
    """The lines of a record; asserts that each is printable, and that all after the first are marked."""
    first, *rest = record.split("\n")
    assert all(line.isprintable() for line in (first, *rest)), ascii(record)
    assert all(line.startswith(CONTINUED) for line in rest), record
    return [first, *rest]


@given(everything)
def test_escaped_text_is_one_printable_line(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)
    if text.isprintable():
        assert escaped(text) == text


@given(everything)
def test_lines_of_escaped_text_are_those_between_newlines(text: str) -> None:
    lines = escaped_lines(text).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert all(line.isprintable() for line in lines)
    assert lines_of(continued(text))[0] == lines[0]


@given(everything)
def test_escaped_json_has_the_same_value(text: str) -> None:
    line = json.dumps({"a": text, "ü": 1}, ensure_ascii=False)
    assert escaped_json(line).isprintable()
    assert json.loads(escaped_json(line)) == {"a": text, "ü": 1}


def test_printable_text_is_not_changed() -> None:
    assert escaped("größer, 大 and 100 %") == "größer, 大 and 100 %"
    assert escaped("a\x1b[2J\u202e\n\x9b") == "a\\x1b[2J\\u202e\\n\\x9b"
    assert escaped_json('"\x7f\U000e0001"') == '"\\u007f\\udb40\\udc01"'


# --- logs -----------------------------------------------------------------------------------------------------------


class RecordingHandler(logging.Handler):
    """A handler of an application, with the default formatter of `logging`."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


@pytest.fixture
def recorded() -> Any:
    handler, logger = RecordingHandler(), logging.getLogger("crew")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def _raised(text: str) -> Exception:
    try:
        raise Liar(text)
    except Liar as error:
        return error


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize(
    "log",
    [
        lambda logger, text: logger.error("task=%s id=%s", text, text),
        lambda logger, text: logger.error("%-20s", text),
        lambda logger, text: logger.error("task=%r", text),
        lambda logger, text: logger.error("a message is dropped: %s", Liar(text)),
        lambda logger, text: logger.error("a message is dropped: %r", Liar(text)),
        lambda logger, text: logger.error("%(a)s", {"a": text}),
        lambda logger, text: logger.error("it failed", exc_info=_raised(text)),
        lambda logger, text: logger.error("it failed%s", Lines(f"Traceback:\n  at x\n{text}")),
    ],
)
def test_a_log_line_of_crew_cannot_be_forged_whatever_handler_writes_it(
    recorded: RecordingHandler, text: str, log: Callable[[logging.Logger, str], None]
) -> None:
    log(logging.getLogger("crew.gateway.serving.server"), text)
    (record,) = recorded.written
    assert not any(line.startswith(FORGED) for line in lines_of(record))


def test_a_printable_log_line_of_crew_is_not_changed(recorded: RecordingHandler) -> None:
    logger = logging.getLogger("crew.worker.supervisor.supervisor")
    logger.error("process %d of %s: %.3f s, %r, %s, %s", 7, "größer", 1.5, "a'b", None, ValueError("no"))
    logger.error("no arguments: 100 %")
    logger.error("failed%s", Lines("Traceback\n\tat x\nValueError: no\n"))
    logger.error("failed%s", Lines(""))
    assert recorded.written == [
        'process 7 of größer: 1.500 s, "a\'b", None, no',
        "no arguments: 100 %",
        "failed\n  | Traceback\n  |     at x\n  | ValueError: no",
        "failed",
    ]


def test_a_traceback_of_crew_stays_readable(recorded: RecordingHandler) -> None:
    logging.getLogger("crew.client.client").error("it failed", exc_info=_raised(f"no\n{FORGED}"))
    first, *rest = lines_of(recorded.written[0])
    assert first == "it failed"
    assert rest[0] == f"{CONTINUED}Traceback (most recent call last):"
    assert rest[-2].endswith("Liar: no")
    assert rest[-1] == f"{CONTINUED}{FORGED}"


@given(everything)
def test_the_formatter_of_crews_processes_marks_the_records_of_every_logger(text: str) -> None:
    for args, error in (((text,), None), ((), _raised(text))):
        record = logging.LogRecord("tornado.general", logging.ERROR, "x.py", 1, "%s", args or ("",), None)
        record.exc_info = None if error is None else (type(error), error, error.__traceback__)
        lines_of(Formatter("%(levelname)s %(message)s").format(record))


# --- terminals ------------------------------------------------------------------------------------------------------


OUTPUTS = ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write")


def test_commands_print_only_with_the_functions_of_command_line() -> None:
    calls = [
        f"{file.name}:{node.lineno}: {ast.unparse(node.func)}"
        for file in (Path(crew.__file__).parent / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in OUTPUTS
    ]
    assert calls == [], "use crew.command_line: print_line, print_json, print_bytes, print_error"

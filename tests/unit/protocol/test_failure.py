"""Failures as data: any exception of a task can be sent to its caller."""

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.errors import SerializationError, TaskFailed
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body


class BrokenStr(Exception):
    """Its str() raises."""

    def __init__(self, broken: BaseException) -> None:
        super().__init__()
        self.broken = broken

    def __str__(self) -> str:
        raise self.broken


def caught(error: BaseException) -> BaseException:
    """`error` with a traceback."""
    try:
        raise error
    except BaseException as one:
        return one


def test_an_exception_is_described_by_type_message_and_traceback() -> None:
    described = failure.describe(caught(ValueError("no such image")))
    assert (described.type_name, described.message, described.retryable) == ("ValueError", "no such image", False)
    assert described.traceback.startswith("Traceback (most recent call last):\n")
    assert "raise error" in described.traceback
    assert described.traceback.endswith("ValueError: no such image\n")


def test_an_exception_type_has_its_import_path() -> None:
    assert failure.type_name(zlib.error("x")) == "zlib.error"
    assert failure.type_name(KeyError()) == "KeyError"
    assert failure.type_name(BrokenStr(ValueError())).endswith("test_failure.BrokenStr")


def test_the_cause_is_in_the_traceback() -> None:
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("effect") from cause
    except ValueError as error:
        described = failure.describe(error)
    assert "KeyError: 'cause'" in described.traceback


@pytest.mark.parametrize("broken", [ValueError("again"), SystemExit(), RecursionError(), KeyboardInterrupt()])
def test_an_exception_whose_str_raises_is_reported(broken: BaseException) -> None:
    described = failure.describe(caught(BrokenStr(broken)))
    assert described.type_name.endswith("BrokenStr")
    assert type(broken).__name__ in described.message
    assert failure.decode(failure.encode(described)) == described


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_base_exceptions_are_described_as_well(error: BaseException) -> None:
    assert failure.describe(caught(error)).type_name == type(error).__name__


@given(st.text())
def test_any_message_can_be_encoded_and_decoded(message: str) -> None:
    described = failure.describe(caught(ValueError(message)))
    assert failure.decode(failure.encode(described)) == described


def test_a_lone_surrogate_in_a_message_is_escaped() -> None:
    assert failure.describe(ValueError("a\ud800b")).message == r"a\ud800b"


def test_a_long_message_or_traceback_is_shortened() -> None:
    described = failure.describe(caught(ValueError("x" * 10_000_000)))
    assert len(described.message) < 2 * failure.MAX_MESSAGE
    assert len(described.traceback) < 2 * failure.MAX_TRACEBACK
    assert "characters left out" in described.message


def test_both_ends_of_a_long_message_are_kept() -> None:
    message = failure.describe(ValueError("begin " + "x" * 100_000 + " end")).message
    assert message.startswith("begin ")
    assert message.endswith(" end")


@given(st.binary())
def test_a_failure_that_cannot_be_decoded_is_a_serialization_error(body: bytes) -> None:
    decoded = failure.decode(body)
    assert isinstance(decoded, Failure)
    assert decoded.type_name == "SerializationError"


@pytest.mark.parametrize("body", [b"{}", b'{"type_name": 1}', b"[]", b'{"type_name": "A", "retryable": "yes"}'])
def test_a_failure_with_the_wrong_fields_is_a_serialization_error(body: bytes) -> None:
    assert failure.decode(body).type_name == "SerializationError"


def test_unknown_fields_of_a_newer_worker_are_ignored() -> None:
    assert failure.decode(b'{"type_name": "A", "hint": "x"}') == Failure(type_name="A")


def test_the_caller_gets_all_fields_of_the_failure() -> None:
    sent = Failure(type_name="app.NoImage", message="empty", traceback="line 3", retryable=True)
    error = failure.raised(sent, task="resize", id="17")
    expected: dict[str, Any] = {
        "type_name": "app.NoImage",
        "message": "empty",
        "traceback": "line 3",
        "retryable": True,
    }
    assert isinstance(error, TaskFailed)
    assert {name: getattr(error, name) for name in expected} == expected
    assert (error.task, error.id) == ("resize", "17")


def test_an_error_raised_by_crew_itself_has_no_traceback() -> None:
    try:
        codec.decode(Body(b"{", codec.JSON))
    except SerializationError as error:
        inside = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    described = failure.describe(inside)
    assert described.traceback == f"crew.errors.SerializationError: {described.message}\n"
    assert "in caught" in failure.describe(caught(SerializationError("of a task"))).traceback

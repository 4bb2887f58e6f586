"""A failure as data: whatever a task raises, its caller can be told."""

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


class Unspeakable(Exception):
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


def test_an_exception_is_told_by_type_message_and_traceback() -> None:
    told = failure.describe(caught(ValueError("no such image")))
    assert (told.type_name, told.message, told.retryable) == ("ValueError", "no such image", False)
    assert told.traceback.startswith("Traceback (most recent call last):\n")
    assert "raise error" in told.traceback
    assert told.traceback.endswith("ValueError: no such image\n")


def test_a_type_is_named_as_one_would_import_it() -> None:
    assert failure.type_name(zlib.error("x")) == "zlib.error"
    assert failure.type_name(KeyError()) == "KeyError"
    assert failure.type_name(Unspeakable(ValueError())).endswith("test_failure.Unspeakable")


def test_the_cause_is_in_the_traceback() -> None:
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("effect") from cause
    except ValueError as error:
        told = failure.describe(error)
    assert "KeyError: 'cause'" in told.traceback


@pytest.mark.parametrize("broken", [ValueError("again"), SystemExit(), RecursionError(), KeyboardInterrupt()])
def test_an_exception_whose_str_raises_is_reported(broken: BaseException) -> None:
    told = failure.describe(caught(Unspeakable(broken)))
    assert told.type_name.endswith("Unspeakable")
    assert type(broken).__name__ in told.message
    assert failure.decode(failure.encode(told)) == told


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_exception_is_told_too(error: BaseException) -> None:
    assert failure.describe(caught(error)).type_name == type(error).__name__


@given(st.text())
def test_any_message_can_travel(message: str) -> None:
    told = failure.describe(caught(ValueError(message)))
    assert failure.decode(failure.encode(told)) == told


def test_a_lone_surrogate_in_a_message_does_not_stop_it() -> None:
    assert failure.describe(ValueError("a\ud800b")).message == r"a\ud800b"


def test_a_failure_stays_cheaper_than_the_call_it_answers() -> None:
    told = failure.describe(caught(ValueError("x" * 10_000_000)))
    assert len(told.message) < 2 * failure.MAX_MESSAGE
    assert len(told.traceback) < 2 * failure.MAX_TRACEBACK
    assert "characters left out" in told.message


def test_both_ends_of_a_long_message_are_kept() -> None:
    message = failure.describe(ValueError("begin " + "x" * 100_000 + " end")).message
    assert message.startswith("begin ")
    assert message.endswith(" end")


@given(st.binary())
def test_a_failure_that_cannot_be_read_is_told_as_such(body: bytes) -> None:
    told = failure.decode(body)
    assert isinstance(told, Failure)
    assert told.type_name == "SerializationError"


@pytest.mark.parametrize("body", [b"{}", b'{"type_name": 1}', b"[]", b'{"type_name": "A", "retryable": "yes"}'])
def test_a_failure_of_the_wrong_shape_is_told_as_such(body: bytes) -> None:
    assert failure.decode(body).type_name == "SerializationError"


def test_a_newer_workers_failure_may_say_more() -> None:
    assert failure.decode(b'{"type_name": "A", "hint": "x"}') == Failure(type_name="A")


def test_the_caller_gets_all_that_was_told() -> None:
    told = Failure(type_name="app.NoImage", message="empty", traceback="line 3", retryable=True)
    error = failure.raised(told, task="resize", id="17")
    expected: dict[str, Any] = {
        "type_name": "app.NoImage",
        "message": "empty",
        "traceback": "line 3",
        "retryable": True,
    }
    assert isinstance(error, TaskFailed)
    assert {name: getattr(error, name) for name in expected} == expected
    assert (error.task, error.id) == ("resize", "17")


def test_what_crew_itself_refuses_has_no_traceback_as_no_line_of_the_task_is_in_it() -> None:
    try:
        codec.decode(Body(b"{", codec.JSON))
    except SerializationError as error:
        inside = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    told = failure.describe(inside)
    assert told.traceback == f"crew.errors.SerializationError: {told.message}\n"
    assert "in caught" in failure.describe(caught(SerializationError("of a task"))).traceback

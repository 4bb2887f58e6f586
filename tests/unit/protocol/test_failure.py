"""Failures as data: any exception of a task can be sent to its caller."""

import re
import traceback
import zlib
from collections.abc import Callable
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


def test_the_traceback_of_a_task_is_formatted_as_python_does() -> None:
    error = caught(ValueError("no such image"))
    assert failure.describe(error).traceback == "".join(traceback.format_exception(error))


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
    inside.add_note("a note")
    described = failure.describe(inside)
    assert described.traceback == f"crew.errors.SerializationError: {described.message}\na note\n"
    assert "in caught" in failure.describe(caught(SerializationError("of a task"))).traceback


def test_a_description_has_the_remarks_of_the_worker() -> None:
    described = failure.describe(ValueError("x"), retryable=True, attempts=3, note="attempt 3 of 3")
    assert (described.retryable, described.attempts, described.note) == (True, 3, "attempt 3 of 3")
    plain = failure.describe(ValueError("x"))
    assert (plain.retryable, plain.attempts, plain.note) == (False, 1, "")
    error = failure.raised(described, task="t", id="1")
    assert isinstance(error, TaskFailed)
    assert (error.attempts, str(error)) == (3, "ValueError: x (attempt 3 of 3)")


def test_an_exception_whose_str_or_traceback_cannot_be_made_is_named() -> None:
    described = failure.describe(caught(BrokenStr(ValueError())))
    assert described.message == "<str() of the exception raised ValueError>"

    class Broken(ValueError):
        @property
        def __cause__(self) -> BaseException:  # type: ignore[override]
            raise KeyError

    assert failure.describe(Broken()).traceback == "<the traceback could not be formatted: KeyError>"


def test_a_failure_that_cannot_be_decoded_says_why() -> None:
    assert failure.decode(b"{}").message == (
        "the failure from the worker cannot be decoded: a failure cannot be decoded: Object missing required field "
        "`type_name`"
    )
    longest = b'{"type_name":"A"}'.ljust(failure.MAX_ENCODED)
    assert failure.decode(longest) == Failure(type_name="A")
    assert "more than 1048576" in failure.decode(longest + b" ").message


def test_each_text_of_a_received_failure_has_the_limit_of_a_description() -> None:
    sent = Failure(type_name="n" * 10_000, message="m" * 10_000, traceback="t" * 100_000, note="o" * 10_000, attempts=2)
    received = failure.decode(failure.encode(sent))
    lengths = [len(text) for text in (received.type_name, received.message, received.traceback, received.note)]
    for length, limit in zip(
        lengths, (failure.MAX_NAME, failure.MAX_MESSAGE, failure.MAX_TRACEBACK, failure.MAX_MESSAGE), strict=True
    ):
        assert limit < length < limit + 50
    assert received.attempts == 2
    short = Failure(type_name="n" * 2_000, message="m")
    body = failure.encode(short).ljust(failure.MAX_MESSAGE)
    assert failure.decode(body) == short, "a small failure costs no check"


def test_the_middle_of_a_text_is_left_out_beyond_its_limit() -> None:
    limit = failure.MAX_TRACEBACK
    assert failure.shortened("x" * limit) == "x" * limit
    half = "a" * (limit // 2)
    assert failure.shortened(f"{half}-{'b' * (limit // 2)}") == (
        f"{half}\n... 1 characters left out ...\n{'b' * (limit // 2)}"
    )


def frame_of(module: str, then: Callable[[], object]) -> Callable[[], object]:
    """A function of the module with this name, which calls `then`."""
    names: dict[str, Any] = {"__name__": module, "then": then}
    exec(compile("def step():\n    return then()\n", f"<{module}>", "exec"), names)  # one frame of that module
    step: Callable[[], object] = names["step"]
    return step


def traceback_through(*modules: str, error: BaseException) -> list[str]:
    """The modules that a description shows of an error that was raised through frames of `modules`."""

    def fail() -> None:
        raise error

    step: Callable[[], object] = fail
    for module in reversed(modules):
        step = frame_of(module, step)
    try:
        step()
    except BaseException as raised:
        trace = raised.__traceback__ and raised.__traceback__.tb_next
        while trace is not None and trace.tb_next is not None and trace.tb_next.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            trace.tb_next = None  # without the frame of `fail`
        shown = failure.describe(raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next))
    return re.findall(r'File "<(.*?)>"', shown.traceback)


@pytest.mark.parametrize(
    ("modules", "shown"),
    [
        (["app", "app"], ["app", "app"]),
        (["crew.worker.a", "crew.worker.b", "app"], ["app"]),
        (["crew.worker.a", "app", "crew.worker.b", "crew.worker.c"], ["app"]),
        (["app", "crew.worker.a", "app"], ["app", "crew.worker.a", "app"]),
        (["crew.worker.a", "crew.worker.b"], ["crew.worker.a", "crew.worker.b"]),
        (["crew.workers", "app"], ["crew.workers", "app"]),
    ],
)
def test_a_traceback_shows_the_task_without_the_worker_around_it(modules: list[str], shown: list[str]) -> None:
    assert traceback_through(*modules, error=ValueError("x")) == shown


def test_the_traceback_of_an_error_of_crew_is_shown_if_the_task_called_it() -> None:
    assert traceback_through("crew.worker.a", "app", "crew.protocol.b", error=SerializationError("x"))[0] == "app"
    assert traceback_through("crew.worker.a", "crew.protocol.b", error=SerializationError("x")) == []

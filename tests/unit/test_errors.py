"""The error tree, as a caller catches it."""

import builtins
import copy
import traceback

import pytest

import crew
from crew import errors

TASK_ERRORS = [
    errors.TimeoutError,
    errors.ExpirationError,
    errors.UnknownTask,
    errors.DuplicateCallId,
    errors.Canceled,
    errors.WorkerLost,
    errors.Overloaded,
    errors.MessageRefused,
]
OTHERS = [
    errors.UnknownJob,
    errors.KeyReused,
    errors.ConnectionError,
    errors.SerializationError,
    errors.TooLarge,
    errors.SettingsError,
]


@pytest.mark.parametrize("kind", [*TASK_ERRORS, errors.TaskFailed, *OTHERS])
def test_one_except_clause_catches_everything_that_crew_raises(kind: type[errors.CrewError]) -> None:
    assert issubclass(kind, crew.CrewError)
    assert issubclass(kind, Exception)


@pytest.mark.parametrize("kind", [*TASK_ERRORS, errors.TaskFailed])
def test_one_except_clause_catches_every_call_without_a_value(kind: type[errors.TaskError]) -> None:
    assert issubclass(kind, crew.TaskError)


@pytest.mark.parametrize("kind", OTHERS)
def test_errors_that_do_not_end_a_call_are_no_task_errors(kind: type[errors.CrewError]) -> None:
    assert not issubclass(kind, crew.TaskError)


def test_a_timeout_is_also_a_builtin_timeout_error() -> None:
    with pytest.raises(builtins.TimeoutError):
        raise crew.TimeoutError


def test_an_expired_call_is_not_a_timeout_error() -> None:
    assert not issubclass(crew.ExpirationError, builtins.TimeoutError)


def test_an_unavailable_broker_is_also_a_builtin_connection_error() -> None:
    with pytest.raises(builtins.ConnectionError):
        raise crew.ConnectionError("the broker is away")


@pytest.mark.parametrize("kind", [crew.SerializationError, crew.SettingsError])
def test_a_value_that_cannot_work_is_a_value_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("kind", TASK_ERRORS)
def test_a_task_error_without_a_message_has_its_docstring_as_message(kind: type[errors.TaskError]) -> None:
    assert str(kind()) == kind.summary
    assert kind.summary.endswith(".")


@pytest.mark.parametrize("kind", OTHERS)
def test_every_other_error_has_a_default_message(kind: type[errors.CrewError]) -> None:
    assert str(kind()).endswith(".")


@pytest.mark.parametrize("kind", TASK_ERRORS)
def test_an_error_names_its_task_and_call(kind: type[errors.TaskError]) -> None:
    error = kind("no", task="resize", id="17")
    assert (str(error), error.task, error.id) == ("no", "resize", "17")


def test_a_failed_task_shows_the_type_and_message_of_its_exception() -> None:
    error = crew.TaskFailed("app.NoImage", "empty file", traceback="line 3", retryable=True, task="resize", id="17")
    assert str(error) == "app.NoImage: empty file"
    assert (error.type_name, error.message, error.traceback) == ("app.NoImage", "empty file", "line 3")
    assert (error.retryable, error.task, error.id) == (True, "resize", "17")


def test_a_failed_task_shows_its_number_of_attempts() -> None:
    error = crew.TaskFailed("OSError", "no route", attempts=4, note="attempt 4 of 4")
    assert str(error) == "OSError: no route (attempt 4 of 4)"
    assert (error.attempts, error.message) == (4, "no route")
    assert crew.TaskFailed("OSError").attempts == 1


def test_a_failed_task_without_a_message_shows_its_type() -> None:
    assert str(crew.TaskFailed("KeyError")) == "KeyError"


def test_except_exception_inside_a_task_does_not_swallow_an_interrupt() -> None:
    seen = []
    with pytest.raises(SystemExit):
        try:
            try:
                raise crew.Interrupt("canceled")
            except Exception:
                seen.append("except Exception")
        finally:
            seen.append("finally")
    assert seen == ["finally"]


def test_an_interrupt_has_its_reason() -> None:
    assert crew.Interrupt().reason == "timeout"
    assert crew.Interrupt("drain").reason == "drain"
    assert "drain" in str(crew.Interrupt("drain"))


FAILED_ROW = 'Traceback (most recent call last):\n  File "worker.py", line 7, in divide\nZeroDivisionError: no\n'


@pytest.mark.parametrize(
    "error",
    [
        errors.TaskFailed("ZeroDivisionError", "no", traceback=FAILED_ROW, task="divide"),
        errors.TimeoutError("it took too long", traceback=FAILED_ROW, task="divide"),
    ],
)
def test_the_traceback_of_a_failed_call_ends_with_that_of_its_task(error: errors.TaskError) -> None:
    printed = "".join(traceback.format_exception(copy.copy(error)))
    assert printed.endswith(f"Traceback of task 'divide' in its worker:\n{FAILED_ROW}")
    assert FAILED_ROW not in str(error)


def test_the_traceback_of_a_task_is_escaped_when_python_prints_it() -> None:
    error = errors.TaskFailed("ValueError", "no", traceback="Traceback:\n\x1b[2J\u202e\nValueError: no\n")
    assert "Traceback:\n\\x1b[2J\\u202e\nValueError: no\n" in "".join(traceback.format_exception(error))
    assert error.traceback == "Traceback:\n\x1b[2J\u202e\nValueError: no\n", "a program gets what was sent"


def test_a_failed_call_without_a_traceback_prints_none() -> None:
    printed = "".join(traceback.format_exception(errors.TaskFailed("ZeroDivisionError", "no")))
    assert printed == "crew.errors.TaskFailed: ZeroDivisionError: no\n"

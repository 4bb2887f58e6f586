"""Problem documents for the errors of crew."""

import copy
import re
import time
from pathlib import Path

import msgspec
import pytest

from crew import errors, gateway
from crew.amqp.errors import LinkRefused
from crew.gateway.problems import (
    PROBLEM_TYPES,
    TYPES_OF_MISSING,
    NotReady,
    problem_of,
    problem_type_of,
    without_addresses,
)

STATUSES = [
    (errors.UnknownTask, 404),
    (errors.DuplicateCallId, 409),
    (errors.TaskFailed, 500),
    (errors.WorkerLost, 502),
    (errors.MessageRefused, 502),
    (errors.TooLarge, 413),
    (errors.SerializationError, 502),
    (errors.TaskError, 502),
    (errors.Overloaded, 503),
    (errors.ConnectionError, 503),
    (errors.ExpirationError, 503),
    (errors.Canceled, 503),
    (errors.TimeoutError, 504),
]


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_each_error_has_its_documented_status(error: type[errors.CrewError], status: int) -> None:
    assert PROBLEM_TYPES[error].status == status


def test_every_task_error_has_a_status() -> None:
    assert {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TaskError)
    } <= {*PROBLEM_TYPES}


def test_problem_types_are_unique() -> None:
    assert len({kind.urn for kind in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)


def test_every_problem_type_is_documented_in_the_reference() -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference"
    documented = "".join(path.read_text() for path in reference.glob("*.md"))
    sources = "".join(path.read_text() for path in Path(gateway.__file__).parent.rglob("*.py"))
    names = {kind.name for kind in (*PROBLEM_TYPES.values(), *TYPES_OF_MISSING.values())} | set(
        re.findall(r'name="([a-z0-9-]+)"', sources)
    )
    bad_members = {"bad-expiration"}  # the reference writes `bad-<member>` for all of them
    assert {name for name in names - bad_members if f"`{name}`" not in documented} == set()


def test_temporary_problems_have_a_retry_after() -> None:
    assert {error for error, kind in PROBLEM_TYPES.items() if kind.retry_after} == {
        errors.Overloaded,
        errors.ConnectionError,
        NotReady,
    }


def test_a_subclass_of_an_error_has_its_problem_type() -> None:
    assert problem_type_of(LinkRefused("user name or password refused")) is PROBLEM_TYPES[errors.ConnectionError]


@pytest.mark.parametrize("error", [None, ValueError("mine"), OSError("mine"), TimeoutError("asyncio's")])
def test_a_foreign_exception_has_no_problem_type(error: Exception | None) -> None:
    assert problem_type_of(error) is None


def document(error: errors.CrewError, *, with_traceback: bool = False) -> object:
    kind = problem_type_of(error)
    assert kind is not None
    return msgspec.json.decode(msgspec.json.encode(problem_of(error, kind, with_traceback=with_traceback)))


def test_a_document_names_the_task_and_the_call() -> None:
    assert document(errors.UnknownTask("no worker has ever served task 'a'", task="a", id="7 a/ü")) == {
        "type": "urn:crew:problem:unknown-task",
        "title": "No worker has ever served a task with this name",
        "status": 404,
        "detail": "no worker has ever served task 'a'",
        "instance": "urn:crew:call:7%20a%2F%C3%BC",
        "task": "a",
        "id": "7 a/ü",
    }


def test_unknown_members_are_left_out_of_a_document() -> None:
    assert document(errors.ConnectionError("the client was closed")) == {
        "type": "urn:crew:problem:broker-away",
        "title": "The broker is unavailable",
        "status": 503,
        "detail": "the client was closed",
    }


@pytest.mark.parametrize(
    ("missing", "name", "title"),
    [
        ("broker", "broker-away", "The broker is unavailable"),
        ("store", "store-away", "The job store is unavailable"),
        ("client", "not-ready", "This gateway is not ready"),
    ],
)
def test_the_problem_type_names_what_is_missing(missing: str, name: str, title: str) -> None:
    error = errors.ConnectionError("it is unavailable", missing=missing)
    kind = problem_type_of(copy.copy(error))
    assert kind is not None
    assert (kind.urn, kind.title, kind.status, kind.retry_after) == (f"urn:crew:problem:{name}", title, 503, 2)


@pytest.mark.parametrize("with_traceback", [True, False])
def test_a_failed_task_has_its_exception_and_only_for_developers_its_traceback(with_traceback: bool) -> None:
    error = errors.TaskFailed("os.Bad", "no", traceback="line 7", retryable=True, attempts=4, note="attempt 4 of 4")
    expected = {
        "type": "urn:crew:problem:task-failed",
        "title": "The task raised an exception",
        "status": 500,
        "detail": "os.Bad: no (attempt 4 of 4)",
        "exception": {"type": "os.Bad", "message": "no", "retryable": True, "attempts": 4},
    }
    assert document(error, with_traceback=with_traceback) == expected | (
        {"traceback": "line 7"} if with_traceback else {}
    )


def test_an_interrupted_task_has_its_traceback_for_developers_only() -> None:
    error = errors.TimeoutError(task="a", id="7", traceback="line 7")
    assert problem_of(error, PROBLEM_TYPES[errors.TimeoutError], with_traceback=True).traceback == "line 7"
    assert problem_of(error, PROBLEM_TYPES[errors.TimeoutError], with_traceback=False).traceback is None


def test_the_address_of_the_broker_is_for_developers_only() -> None:
    text = "task 't' is not called: the broker is unavailable: amqp://me:***@10.0.0.7:5672/%2Fshop: connection refused"
    error = errors.ConnectionError(text)

    assert problem_of(error, PROBLEM_TYPES[errors.ConnectionError], with_traceback=True).detail == text
    hidden = problem_of(error, PROBLEM_TYPES[errors.ConnectionError], with_traceback=False).detail
    assert hidden == "task 't' is not called: the broker is unavailable: connection refused"


@pytest.mark.parametrize("store", ["postgresql://me:***@10.0.0.7/shop", "sqlite:////home/me/my jobs.db"])
def test_the_address_of_the_job_store_is_for_developers_only(store: str) -> None:
    text = f"the job store {store} cannot be used: [Errno 111] Connect call failed ('10.0.0.7', 5432)"
    error = errors.ConnectionError(text)

    assert problem_of(error, PROBLEM_TYPES[errors.ConnectionError], with_traceback=True).detail == text
    hidden = problem_of(error, PROBLEM_TYPES[errors.ConnectionError], with_traceback=False).detail
    assert hidden == "the job store cannot be used"


@pytest.mark.parametrize(
    "text",
    [
        "amqp://" * 40_000,
        "the job store sqlite://" * 20_000,
        "amqp://x" * 40_000 + ": ",
        "the job store postgresql://" + "x" * 500_000,
    ],
)
def test_the_search_for_addresses_takes_time_linear_in_the_length_of_the_text(text: str) -> None:
    began = time.thread_time()
    problem_of(errors.TaskFailed("E", text, task="t", id="1"), PROBLEM_TYPES[errors.TaskFailed], with_traceback=False)
    assert time.thread_time() - began < 1.0  # it took minutes


def test_the_address_of_the_broker_and_the_reason_of_a_store_error_are_left_out() -> None:
    assert without_addresses("the broker is unavailable: amqp://me@h:5672/v: refused (amqps://h) twice") == (
        "the broker is unavailable: refused (amqps://h) twice"
    )
    text = "the job store postgresql://me@db/jobs cannot be used: no route to db"
    assert without_addresses(text) == "the job store cannot be used"

"""The result of an execution is a value."""

from collections.abc import Callable

import pytest

from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Call, Outcome
from crew.worker.execution.result import (
    REDELIVERED,
    Result,
    deadline_passed,
    expired,
    failed_with,
    timed_out,
    worker_lost,
)

LATE = Call(id="1", task="resize", body=Body(b"", None))


def failure_of(result: Result) -> tuple[Outcome | None, str, str]:
    """The outcome of a failed result, the name of its error, and the message."""
    decoded = failure.decode(result.body.data)
    return result.outcome, decoded.type_name, decoded.message


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: timed_out("too slow"), (Outcome.TIMED_OUT, "TimeoutError", "too slow")),
        (lambda: worker_lost("it died"), (Outcome.WORKER_LOST, "WorkerLost", "it died")),
        (lambda: expired(LATE), (Outcome.EXPIRED, "ExpirationError", "no worker took task 'resize' in time")),
        (lambda: deadline_passed(LATE), (Outcome.EXPIRED, "ExpirationError", "no worker took task 'resize' in time")),
    ],
)
def test_a_failed_result_names_its_error_and_is_json(
    make: Callable[[], Result], expected: tuple[Outcome, str, str]
) -> None:
    result = make()
    assert failure_of(result) == expected
    assert result.body.content_type == codec.JSON
    assert result.message == expected[2]
    assert not result.runs_again


def test_a_retried_call_whose_deadline_passed_has_timed_out_instead_of_expired() -> None:
    again = Call(id="1", task="resize", body=Body(b"", None), attempt=2)
    outcome, type_name, message = failure_of(deadline_passed(again))
    assert (outcome, type_name) == (Outcome.TIMED_OUT, "TimeoutError")
    assert message == "task 'resize' failed, and its deadline passed before the next attempt could start"


def test_a_call_runs_again_if_it_is_redelivered_or_retried() -> None:
    failed = Failure(type_name="E", message="m")
    assert REDELIVERED.runs_again
    assert failed_with(Outcome.RAISED, failed, retry_after=0.0).runs_again
    assert worker_lost("m", retry_after=2.0).retry_after == 2.0
    assert not failed_with(Outcome.RAISED, failed).runs_again


def test_the_body_of_any_failed_result_is_json() -> None:
    failed = Failure(type_name="E", message="m")
    assert failed_with(Outcome.RAISED, failed).body == Body(failure.encode(failed), codec.JSON)


def test_a_traceback_is_added_to_a_copy_with_the_same_error() -> None:
    result = worker_lost("it died", retry_after=2.0)
    traced = result.with_traceback("line 1\nline 2")
    decoded = failure.decode(traced.body.data)
    assert (decoded.type_name, decoded.message, decoded.traceback) == ("WorkerLost", "it died", "line 1\nline 2")
    assert (traced.outcome, traced.retry_after) == (Outcome.WORKER_LOST, 2.0)
    assert traced.body.content_type == codec.JSON
    assert failure.decode(result.body.data).traceback != "line 1\nline 2"

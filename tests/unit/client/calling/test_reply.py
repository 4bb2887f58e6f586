"""The result of a call for each reply and dead letter."""

import pytest

from crew import errors
from crew.client.calling.reply import result_of_reply
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Outcome, Reply
from crew.protocol.properties import DeadLetter
from tests.support.pending_calls import a_call


def reply(outcome: Outcome, error: Failure) -> Reply:
    """A reply with a failure."""
    return Reply(id="17", outcome=outcome, body=Body(failure.encode(error), codec.JSON))


def test_the_result_is_the_value_of_the_reply() -> None:
    value = {"width": 320, "tags": ["a"]}
    assert result_of_reply(a_call(), Reply(id="17", outcome=Outcome.RETURNED, body=codec.encode(value))) == value


def test_a_value_that_cannot_be_decoded_is_a_serialization_error() -> None:
    result = result_of_reply(a_call(), Reply(id="17", outcome=Outcome.RETURNED, body=Body(b"{", codec.JSON)))
    assert isinstance(result, errors.SerializationError)
    assert "call 17" in str(result)


def test_a_pickle_is_never_decoded() -> None:
    body = Body(b"cos\nsystem\n(S'true'\ntR.", "application/x-python-serialize")
    assert isinstance(
        result_of_reply(a_call(), Reply(id="17", outcome=Outcome.RETURNED, body=body)), errors.SerializationError
    )


def test_an_exception_of_the_task_has_all_its_details() -> None:
    result = result_of_reply(
        a_call("17"), reply(Outcome.RAISED, Failure(type_name="KeyError", message="'x'", traceback="..."))
    )
    assert isinstance(result, errors.TaskFailed)
    assert (result.type_name, result.message, result.traceback, result.task, result.id) == (
        "KeyError",
        "'x'",
        "...",
        "t",
        "17",
    )


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.TIMED_OUT, errors.TimeoutError),
        (Outcome.EXPIRED, errors.ExpirationError),
        (Outcome.CANCELED, errors.Canceled),
        (Outcome.UNKNOWN_TASK, errors.UnknownTask),
        (Outcome.WORKER_LOST, errors.WorkerLost),
    ],
)
def test_every_outcome_has_its_own_error(outcome: Outcome, kind: type[errors.TaskError]) -> None:
    result = result_of_reply(a_call("17"), reply(outcome, Failure(type_name="x", message="a message")))
    assert type(result) is kind
    assert (str(result), result.task, result.id) == ("a message", "t", "17")
    assert str(result_of_reply(a_call(), reply(outcome, Failure(type_name="x")))) == kind.summary


def test_every_final_outcome_has_a_result() -> None:
    for outcome in filter(lambda outcome: outcome.is_end, Outcome):
        assert result_of_reply(a_call(), reply(outcome, Failure(type_name="x"))) is not None


@pytest.mark.parametrize("outcome", [Outcome.RAISED, Outcome.TIMED_OUT])
def test_a_failure_that_cannot_be_decoded_is_still_a_failure(outcome: Outcome) -> None:
    result = result_of_reply(a_call(), Reply(id="17", outcome=outcome, body=Body(b"\xff", None)))
    assert isinstance(result, errors.TaskError)
    assert "cannot be decoded" in str(result)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("expired", errors.ExpirationError),
        ("maxlen", errors.Overloaded),
        ("delivery_limit", errors.WorkerLost),
        ("rejected", errors.TaskError),
        ("whatever comes next", errors.TaskError),
    ],
)
def test_a_dead_lettered_call_has_the_reason(reason: str, kind: type[errors.TaskError]) -> None:
    result = result_of_reply(a_call("17"), DeadLetter("17", reason))
    assert type(result) is kind
    assert (result.task, result.id) == ("t", "17")


@pytest.mark.parametrize("is_letter", [True, False])
def test_a_started_call_that_then_expires_in_its_queue_times_out(is_letter: bool) -> None:
    call = a_call()
    call.has_started = True
    expired = reply(Outcome.EXPIRED, Failure(type_name="ExpirationError", message="no worker took it"))
    result = result_of_reply(call, DeadLetter("17", "expired") if is_letter else expired)
    assert isinstance(result, errors.TimeoutError)
    assert "could not finish it, and no other worker took it in time" in str(result)


def test_a_call_over_the_delivery_limit_names_the_policy() -> None:
    result = result_of_reply(a_call("17"), DeadLetter("17", "delivery_limit"))
    assert "call 17 of task 't' was delivered more often than the policy of its queue allows" in str(result)
    assert "delivery-limit" in str(result)

"""One run of a task for one delivery: its result is decided once."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from crew.errors import Interrupt
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.failure import Failure
from crew.protocol.message import Body, Outcome
from crew.worker.context import context
from crew.worker.execution.execution import Execution, current_execution
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result
from crew.worker.retry_policy import Retry
from tests.support import deliveries
from tests.support.deliveries import an_execution, outcome_of, value_of


def run(execution: Execution) -> Execution:
    """Run it as an executor does."""
    execution.begin()
    deliveries.run(execution)
    return execution


def failure_of(execution: Execution) -> Failure:
    """The failure in its result."""
    assert execution.result is not None
    return failure.decode(execution.result.body.data)


# --- its result ------------------------------------------------------------------------------------------------------


def test_a_returned_value_is_the_result() -> None:
    assert value_of(run(an_execution(lambda data: data["width"] // 2, {"width": 640}))) == 320


def test_returning_nothing_is_a_value() -> None:
    assert value_of(run(an_execution(lambda data: None))) is None


def test_bytes_are_returned_as_bytes() -> None:
    execution = run(an_execution(lambda data: b"\xff" + data, b"\x00"))
    assert value_of(execution) == b"\xff\x00"


def test_a_call_in_msgpack_gets_its_reply_in_msgpack() -> None:
    execution = run(an_execution(lambda data: {1: b"x"}, None, serializer="msgpack"))
    assert execution.result is not None
    assert execution.result.body.content_type == codec.MSGPACK
    assert value_of(execution) == {1: b"x"}


def test_the_traceback_of_an_exception_has_no_line_of_crew() -> None:
    def boom(data: Any) -> None:
        raise KeyError("x")

    execution = run(an_execution(boom))
    assert outcome_of(execution) is Outcome.RAISED
    failed = failure_of(execution)
    assert (failed.type_name, failed.message) == ("KeyError", "'x'")
    assert 'raise KeyError("x")' in failed.traceback
    assert "crew/worker" not in failed.traceback


@pytest.mark.parametrize("status", [None, 0, 3, "bye"])
def test_a_task_that_calls_sys_exit_fails_and_its_worker_continues(status: Any) -> None:
    execution = run(an_execution(lambda data: sys.exit(status)))
    assert outcome_of(execution) is Outcome.RAISED
    assert failure_of(execution).type_name == "SystemExit"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), MemoryError(), Interrupt()])
def test_no_exception_of_a_task_leaves_its_execution(error: BaseException) -> None:
    def boom(data: Any) -> None:
        raise error

    assert outcome_of(run(an_execution(boom))) is Outcome.RAISED


def test_an_exception_whose_str_raises_is_reported() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("again")

    def boom(data: Any) -> None:
        raise Unprintable

    assert "Unprintable" in failure_of(run(an_execution(boom))).type_name


def test_endless_recursion_is_reported_as_such() -> None:
    def deeper(data: Any) -> Any:
        return deeper(data)

    assert failure_of(run(an_execution(deeper))).type_name == "RecursionError"


@pytest.mark.parametrize("value", [object, {1, 2}, {"a": b"x"}, float("nan"), "\ud800"], ids=repr)
def test_a_value_that_cannot_be_encoded_fails_the_call_and_the_error_says_so(value: Any) -> None:
    execution = run(an_execution(lambda data: value))
    assert outcome_of(execution) is Outcome.RAISED
    assert failure_of(execution).type_name.endswith("SerializationError")


@pytest.mark.parametrize(
    "body",
    [Body(b"{", codec.JSON), Body(b"x", "application/x-python-serialize"), Body(b"x", codec.JSON, "gzip")],
    ids=["not JSON", "a pickle", "not gzip"],
)
def test_a_body_that_cannot_be_decoded_fails_its_call_without_running_it(body: Body) -> None:
    ran: list[Any] = []
    execution = run(an_execution(ran.append, body=body))
    assert outcome_of(execution) is Outcome.RAISED
    assert failure_of(execution).type_name.endswith("SerializationError")
    assert ran == []


def test_reply_headers_are_sent_with_the_value() -> None:
    def tag(data: Any) -> None:
        context.headers["took"] = 3

    execution = run(an_execution(tag))
    assert execution.result is not None
    assert execution.result.headers == {"took": 3}


@pytest.mark.parametrize("headers", [{"a": None}, {"a": [1]}, {1: 1}, {"crew-worker": "x"}, {"a": 2**63}], ids=repr)
def test_reply_headers_that_cannot_be_sent_fail_the_call(headers: dict[Any, Any]) -> None:
    execution = run(an_execution(lambda data: context.headers.update(headers)))
    assert outcome_of(execution) is Outcome.RAISED
    assert failure_of(execution).type_name == "ValueError"
    assert "header" in failure_of(execution).message


def test_a_call_whose_deadline_has_passed_is_not_started() -> None:
    ran: list[Any] = []
    execution = run(an_execution(ran.append, budget=-0.001))
    assert outcome_of(execution) is Outcome.EXPIRED
    assert ran == []


def test_there_is_no_context_after_the_task_has_ended() -> None:
    run(an_execution(lambda data: context.id))
    assert current_execution.get() is None


# --- retries ---------------------------------------------------------------------------------------------------------

THREE = Retry(retries=3, backoff=(1.0, 60.0), retry_on=(OSError,))


def fails(error: BaseException) -> Callable[[Any], Any]:
    """A task that raises `error`."""

    def task(data: Any) -> Any:
        raise error

    return task


def retry_after(execution: Execution) -> float | None:
    """The seconds until the retry, in its result."""
    assert execution.result is not None
    return execution.result.retry_after


def test_an_exception_in_retry_on_leads_to_a_retry() -> None:
    execution = run(an_execution(fails(ConnectionResetError()), retry=THREE))
    assert retry_after(execution) == 1.0
    assert failure_of(execution).type_name == "ConnectionResetError"


@pytest.mark.parametrize(
    ("error", "options", "attempts", "retryable", "note"),
    [
        (OSError(), {"attempt": 4}, 4, True, "attempt 4 of 4"),
        (OSError(), {"budget": 0.5}, 1, True, "attempt 1 of 4; no time for another"),
        (OSError(), {"attempt": 3, "budget": 2}, 3, True, "attempt 3 of 4; no time for another"),
        (KeyError(), {}, 1, False, ""),
        (KeyError(), {"attempt": 2}, 2, False, "attempt 2 of 4"),
        (OSError(), {"retry": Retry()}, 1, False, ""),
    ],
)
def test_the_last_failure_names_the_number_of_attempts(
    error: Exception, options: dict[str, Any], attempts: int, retryable: bool, note: str
) -> None:
    execution = run(an_execution(fails(error), **{"retry": THREE, **options}))
    assert retry_after(execution) is None
    failed = failure_of(execution)
    assert (failed.attempts, failed.retryable, failed.note) == (attempts, retryable, note)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Interrupt()], ids=repr)
def test_a_base_exception_is_never_retried(error: BaseException) -> None:
    assert retry_after(run(an_execution(fails(error), retry=Retry(retries=3)))) is None


@pytest.mark.parametrize("reason", InterruptReason)
def test_an_interrupted_task_is_not_retried_whatever_it_raises(reason: InterruptReason) -> None:
    def task(data: Any) -> None:
        execution.interrupt(reason)
        raise OSError

    execution = an_execution(task, retry=THREE)
    assert retry_after(run(execution)) is None


@pytest.mark.parametrize(
    ("function", "body"),
    [(lambda data: {1, 2}, None), (lambda data: context.headers.update({"a": None}), None), (str, Body(b"{", "x"))],
    ids=["a value that cannot travel", "headers that cannot", "a body that cannot be read"],
)
def test_a_failure_to_decode_or_encode_is_not_retried(function: Any, body: Body | None) -> None:
    execution = run(an_execution(function, body=body, retry=Retry(retries=3)))
    assert outcome_of(execution) is Outcome.RAISED
    assert retry_after(execution) is None


def test_a_task_sees_the_number_of_its_attempt() -> None:
    assert value_of(run(an_execution(lambda data: context.attempt, attempt=3, crashes=1))) == 4


# --- its limit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "asked", "registered", "expected"),
    [
        (60.0, None, None, 60.0),
        (60.0, 3.0, None, 3.0),
        (60.0, None, 3.0, 3.0),
        (60.0, 5.0, 3.0, 3.0),
        (60.0, 3.0, 5.0, 3.0),
        (2.0, 3.0, 5.0, 2.0),
        (None, None, None, None),
        (None, 3.0, None, 3.0),
    ],
)
def test_the_smallest_of_deadline_and_timeouts_is_its_limit(
    budget: float | None, asked: float | None, registered: float | None, expected: float | None
) -> None:
    execution = an_execution(budget=budget, timeout=asked)
    execution.task.timeout = registered
    execution.begin()
    if expected is None:
        assert execution.limit is None
        assert execution.remaining is None
    else:
        assert execution.limit == pytest.approx(time.monotonic() + expected, abs=0.05)
        assert execution.remaining == pytest.approx(expected, abs=0.05)


# --- deciding --------------------------------------------------------------------------------------------------------


def test_the_first_decision_stands() -> None:
    execution = an_execution()
    first, second = (Result(outcome, Body(b"", None)) for outcome in (Outcome.RETURNED, Outcome.RAISED))
    assert [execution.decide(first), execution.decide(second)] == [True, False]
    assert execution.result is first


def test_a_task_that_has_returned_cannot_be_interrupted() -> None:
    execution = run(an_execution(lambda data: "value"))
    assert execution.interrupt(InterruptReason.TIMEOUT) is False
    assert value_of(execution) == "value"
    assert not execution.is_interrupted
    assert execution.reason is None


def test_a_task_that_was_interrupted_cannot_return() -> None:
    execution = an_execution(lambda data: execution.interrupt(InterruptReason.TIMEOUT))
    run(execution)
    assert outcome_of(execution) is Outcome.TIMED_OUT
    assert execution.is_interrupted


def test_an_interrupted_task_can_check_that_it_should_end() -> None:
    seen: list[bool] = []

    def look(data: Any) -> None:
        seen.append(context.canceled.is_set())
        execution.interrupt(InterruptReason.CANCELED)
        seen.append(context.canceled.is_set())

    execution = an_execution(look)
    run(execution)
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("reason", "persistent", "outcome"),
    [
        (InterruptReason.TIMEOUT, True, Outcome.TIMED_OUT),
        (InterruptReason.TIMEOUT, False, Outcome.TIMED_OUT),
        (InterruptReason.CANCELED, True, Outcome.CANCELED),
        (InterruptReason.DRAIN, True, None),  # another worker runs it
        (InterruptReason.DRAIN, False, Outcome.WORKER_LOST),
    ],
)
def test_each_interrupt_reason_has_its_result(
    reason: InterruptReason, persistent: bool, outcome: Outcome | None
) -> None:
    execution = an_execution(persistent=persistent)
    execution.begin()
    assert execution.interrupt(reason) is True
    assert outcome_of(execution) is outcome
    assert execution.reason is reason


def test_a_second_interrupt_does_not_change_the_first() -> None:
    execution = an_execution()
    assert [execution.interrupt(InterruptReason.DRAIN), execution.interrupt(InterruptReason.TIMEOUT)] == [True, False]
    assert execution.reason is InterruptReason.DRAIN


def test_of_many_threads_that_decide_at_once_one_wins() -> None:
    def decide(execution: Execution, number: int, barrier: threading.Barrier, won: list[bool]) -> None:
        barrier.wait(5)
        if number % 2:
            won.append(execution.interrupt(InterruptReason.TIMEOUT))
        else:
            won.append(execution.decide(Result(Outcome.RETURNED, Body(b"", None))))

    for _ in range(50):
        execution, barrier, won = an_execution(), threading.Barrier(6), list[bool]()
        threads = [threading.Thread(target=decide, args=(execution, number, barrier, won)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert sorted(won) == [False] * 5 + [True]
        assert (outcome_of(execution) is Outcome.TIMED_OUT) == execution.is_interrupted


def test_the_repr_of_an_execution_names_its_state() -> None:
    execution = an_execution()
    assert repr(execution).endswith("of task t: waiting>")
    execution.begin()
    assert repr(execution).endswith("running>")
    execution.interrupt(InterruptReason.TIMEOUT)
    assert repr(execution).endswith("interrupted>")
    deliveries.run(execution)
    assert repr(execution).endswith("ended>")


def test_attempts_are_counted_from_one() -> None:
    assert an_execution().attempt == 1
    assert an_execution(crashes=2).attempt == 3

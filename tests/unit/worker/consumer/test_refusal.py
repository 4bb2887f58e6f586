"""Which calls must not run, and which result they get instead."""

import socket
import time
from typing import Any

import msgspec
import pytest

from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.message import Call, Outcome
from crew.worker.consumer.admission import MAX_DELIVERIES, refusal
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result
from crew.worker.shared_state.shared_state import OVERDUE
from crew.worker.task import MAX_TIMEOUT, Task
from tests.support.deliveries import a_task


def a_call(**fields: Any) -> Call:
    """A persistent call with a minute left."""
    given = {"id": "17", "task": "t", "body": codec.encode(None), "deadline": time.time() + 60, "persistent": True}
    return Call(**{**given, **fields})


def a_plain_task(**options: Any) -> Task:
    return a_task(lambda data: None, **options)


def refused(call: Call, crashes: int = 0, *, task: Task | None = None, **given: Any) -> tuple[Outcome | None, str]:
    """The outcome and the message of a call that must not run."""
    result = refusal(call, task or a_plain_task(), crashes, given.pop("revoked", None), **given)
    assert result is not None, "the call may run"
    return result.outcome, result.message


def may_run(call: Call, crashes: int = 0, **options: Any) -> bool:
    return refusal(call, a_plain_task(**options), crashes, None) is None


@pytest.mark.parametrize("deadline", [None, 60.0], ids=["without a deadline", "in time"])
def test_a_new_call_may_run(deadline: float | None) -> None:
    assert may_run(a_call(deadline=None if deadline is None else time.time() + deadline))


@pytest.mark.parametrize("reason", list(InterruptReason))
@pytest.mark.parametrize("crashes", [0, 1, MAX_DELIVERIES, OVERDUE])
def test_a_canceled_call_is_canceled_whatever_else_has_happened(reason: InterruptReason, crashes: int) -> None:
    call = a_call(deadline=time.time() - 60)
    assert refused(call, crashes, revoked=reason) == (Outcome.CANCELED, "task 't': its call 17 was canceled")


def test_a_call_whose_process_was_killed_as_its_task_could_not_be_interrupted_has_timed_out() -> None:
    """Even if its deadline has passed since: it was started."""
    message = "task 't' could not be interrupted; its worker process was killed"
    for deadline in (time.time() + 60, time.time() - 60):
        assert refused(a_call(deadline=deadline), OVERDUE) == (Outcome.TIMED_OUT, message)


def test_a_call_whose_deadline_passed_before_its_first_attempt_has_expired() -> None:
    assert refused(a_call(deadline=time.time() - 0.001)) == (Outcome.EXPIRED, "no worker took task 't' in time")


def test_a_retry_whose_deadline_has_passed_has_timed_out() -> None:
    outcome, message = refused(a_call(deadline=time.time() - 0.001, attempt=2))
    assert outcome is Outcome.TIMED_OUT
    assert message == "task 't' failed, and its deadline passed before the next attempt could start"


@pytest.mark.parametrize("crashes", range(1, MAX_DELIVERIES))
def test_a_persistent_call_runs_again_after_a_crash(crashes: int) -> None:
    assert may_run(a_call(), crashes)


@pytest.mark.parametrize(
    ("status", "last"),
    [
        ("", ""),
        ("exit 3", f"; the last exited with 3 on {socket.gethostname()}"),
        ("SIGKILL", f"; the last was killed by SIGKILL on {socket.gethostname()}"),
    ],
)
def test_a_call_that_has_crashed_three_processes_is_lost(status: str, last: str) -> None:
    outcome, message = refused(a_call(), MAX_DELIVERIES, exit_status=status)
    assert outcome is Outcome.WORKER_LOST
    assert message.startswith("task 't': 3 worker processes died while they ran the call")
    assert message.endswith(last)


@pytest.mark.parametrize(
    ("fields", "options", "kind"),
    [
        ({"persistent": False}, {}, "a call that is not persistent"),
        ({}, {"long": True}, "a long task"),
        ({"is_job": True, "deadline": None}, {}, f"a job without a timeout of {MAX_TIMEOUT:.0f} s or less"),
    ],
)
def test_a_call_that_may_run_once_only_is_lost_after_one_crash(
    fields: dict[str, Any], options: dict[str, Any], kind: str
) -> None:
    task = a_plain_task(**options)
    assert task.runs_once(a_call(**fields))
    outcome, message = refused(a_call(**fields), 1, task=task)
    assert outcome is Outcome.WORKER_LOST
    assert message == f"task 't': its worker process died; {kind} is not retried"
    assert may_run(a_call(**fields), 0, **options)


def test_the_error_of_a_lost_call_says_how_its_process_ended() -> None:
    _, message = refused(a_call(persistent=False), 1, exit_status="SIGSEGV")
    assert message == (
        "task 't': its worker process was killed by SIGSEGV; a call that is not persistent is not retried"
    )


def test_the_deadline_is_compared_by_the_clock_of_the_sender() -> None:
    """A worker whose clock is ahead does not refuse calls that are in time."""
    call = a_call(deadline=time.time() - 30)
    assert refused(call)[0] is Outcome.EXPIRED
    assert may_run(msgspec.structs.replace(call, skew=60.0))


def test_a_refused_call_gets_an_error_that_its_client_can_decode() -> None:
    result = refusal(a_call(), a_plain_task(), MAX_DELIVERIES, None)
    assert isinstance(result, Result)
    assert failure.decode(result.body.data).type_name == "WorkerLost"
    assert not result.runs_again

"""Lost calls."""

import time

import msgspec
import pytest

from crew.protocol import failure
from crew.protocol.message import Outcome, Run
from crew.worker.execution.result import NO_BODY
from crew.worker.shared_state import lost_call
from tests.support.deliveries import an_execution

CALL = msgspec.structs.replace(an_execution().call, id="17", message_id="m", body=NO_BODY, deadline=None)


def test_a_lost_call_has_the_fields_that_its_reply_needs() -> None:
    found = lost_call.decode(lost_call.encode(CALL), status="SIGKILL", is_overdue=False)
    assert found.call == CALL


def test_the_caller_learns_how_and_on_which_host_the_process_died() -> None:
    result = lost_call.decode(lost_call.encode(CALL), status="SIGSEGV", is_overdue=False).result("atlas")
    reported = failure.decode(result.body.data)
    assert (result.outcome, reported.type_name) == (Outcome.WORKER_LOST, "WorkerLost")
    assert reported.message.startswith("task 't': its worker process on atlas was killed by SIGSEGV")


def test_a_lost_call_whose_process_was_killed_for_it_has_timed_out() -> None:
    result = lost_call.decode(lost_call.encode(CALL), status="SIGKILL", is_overdue=True).result("atlas")
    assert result.outcome is Outcome.TIMED_OUT


def test_a_call_without_reply_to_is_not_recorded() -> None:
    assert lost_call.encode(msgspec.structs.replace(CALL, reply_to=None)) == b""


@pytest.mark.parametrize("excess", [0, 8])
def test_the_longest_names_that_amqp_allows_fit_and_longer_ones_do_not(excess: int) -> None:
    longest = "x" * 255
    call = msgspec.structs.replace(
        CALL, id=longest, reply_to=longest, message_id=longest, task="t" * (244 + excess), persistent=False
    )
    run = Run(host="h" * 64 + ":4194304", started=time.time(), attempt=2**31)
    data = lost_call.encode(call, run)
    if excess:
        assert data == b""
    else:
        found = lost_call.decode(data, status="", is_overdue=False)
        assert (found.call, found.run) == (msgspec.structs.replace(call, is_job=True), run)

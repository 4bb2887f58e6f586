"""What an answer needs when the process of a call has died."""

import time

import msgspec
import pytest

from crew.protocol import failure
from crew.protocol.message import Outcome, Run
from crew.worker.execution.result import NO_BODY
from crew.worker.shared_state import lost_call
from tests.support.deliveries import an_execution

CALL = msgspec.structs.replace(an_execution().call, id="17", message_id="m", body=NO_BODY, deadline=None)


def test_what_an_answer_needs_is_kept() -> None:
    found = lost_call.decode(lost_call.encode(CALL), status="SIGKILL", is_overdue=False)
    assert found.call == CALL


def test_its_caller_reads_how_and_where_its_process_died() -> None:
    result = lost_call.decode(lost_call.encode(CALL), status="SIGSEGV", is_overdue=False).result("atlas")
    told = failure.decode(result.body.data)
    assert (result.outcome, told.type_name) == (Outcome.WORKER_LOST, "WorkerLost")
    assert told.message.startswith("task 't': its worker process on atlas was killed by SIGSEGV")


def test_a_call_for_which_its_process_was_killed_has_timed_out() -> None:
    result = lost_call.decode(lost_call.encode(CALL), status="SIGKILL", is_overdue=True).result("atlas")
    assert result.outcome is Outcome.TIMED_OUT


def test_nothing_is_kept_of_a_call_that_wants_no_answer() -> None:
    assert lost_call.encode(msgspec.structs.replace(CALL, reply_to=None)) == b""


@pytest.mark.parametrize("excess", [0, 8])
def test_whatever_names_amqp_allows_there_is_room_for_and_not_for_more(excess: int) -> None:
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

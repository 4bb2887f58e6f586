"""Control messages to workers for calls that are canceled or time out."""

import asyncio
import time

import msgspec
import pytest

from crew import errors
from crew.amqp import ConfirmStatus
from crew.client.calling.calls import REPLY_MARGIN
from crew.protocol import properties
from crew.protocol.message import Body, Control, Outcome, Reply
from tests.support.pending_calls import a_call
from tests.support.waiting import until
from tests.unit.client.calling.test_calls import Caller, returned


def sent(caller: Caller) -> list[tuple[str, str, str]]:
    """The published control messages: routing key, id of the call, reason."""
    return [(key, control.id, control.reason) for key, control in controls(caller)]


def controls(caller: Caller) -> list[tuple[str, Control]]:
    """The published control messages, with their routing keys."""
    sent = [one for one in caller.publishing.published if one.exchange == "crew.control"]
    return [(one.key, properties.to_control(one.properties)) for one in sent]


def started(id: str, worker: str | None = "w1") -> Reply:
    """The report that a worker has started the call."""
    return Reply(id=id, outcome=Outcome.STARTED, body=Body(b"", None), worker=worker)


@pytest.mark.gen_test
async def test_a_cancel_is_sent_to_all_workers_of_the_task() -> None:
    """The broker may deliver the call to any of them."""
    caller = Caller()
    call = a_call("17", deadline=time.time() + 60)
    caller.calls.send(call, 60)
    caller.calls.cancel(call)
    assert sent(caller) == [("task.t", "17", "canceled")]
    ((_, control),) = controls(caller)
    assert control.deadline == pytest.approx(call.message.deadline, abs=0.001)
    assert len(caller.calls) == 0
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_canceled_call_that_was_not_published_is_never_published() -> None:
    caller = Caller()
    caller.publishing.is_ready = False
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.calls.cancel(call)
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert caller.publishing.published == []
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_cancel_waits_for_the_broker() -> None:
    caller = Caller()
    calls = [a_call(id) for id in ("17", "18")]
    for call in calls:
        caller.calls.send(call, 60)
    caller.publishing.is_ready = False
    for call in calls:
        caller.calls.cancel(call)
    assert sent(caller) == []
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    caller.calls.send_waiting()
    assert sent(caller) == [("task.t", "17", "canceled"), ("task.t", "18", "canceled")]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_cancel_after_the_deadline_of_its_call_does_not_wait_for_the_broker() -> None:
    caller = Caller()
    call = a_call("17", deadline=time.time() - 1)
    caller.calls.send(call, 60)
    caller.publishing.is_ready = False
    caller.calls.cancel(call)
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert sent(caller) == []
    caller.calls.close()


@pytest.mark.gen_test
async def test_the_number_of_cancels_that_wait_for_the_broker_is_bounded() -> None:
    caller = Caller(max_unsent=3)
    calls = [a_call(f"{number}") for number in range(5)]
    for call in calls:
        caller.calls.send(call, 60)
    caller.publishing.is_ready = False
    for call in calls:
        caller.calls.cancel(call)
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert [id for _, id, _ in sent(caller)] == ["0", "1", "2"]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_worker_that_starts_a_canceled_call_is_sent_a_cancel() -> None:
    """The worker has missed the cancel."""
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.calls.cancel(call)
    caller.receive_reply(started("17"))
    assert sent(caller)[1:] == [("worker.w1", "17", "canceled")]
    assert len(caller.channel.acked_through) == 1
    caller.calls.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("message_id", [None, "message-1"])
async def test_a_worker_that_starts_a_call_late_is_sent_a_cancel_that_names_the_message(message_id: str | None) -> None:
    """Another call may have the same id by then."""
    caller = Caller()
    caller.receive_reply(msgspec.structs.replace(started("17"), message_id=message_id))
    ((_, control),) = controls(caller)
    assert control.message_id == (message_id or "17")
    caller.calls.close()


@pytest.mark.gen_test
async def test_cancels_of_two_calls_with_one_id_both_wait_for_the_broker() -> None:
    caller = Caller()
    deadlines = [round(time.time()) + 60.0, round(time.time()) + 90.0]
    for deadline in deadlines:
        call = a_call("17", deadline=deadline)
        caller.publishing.is_ready = True
        caller.calls.send(call, 60)
        caller.publishing.is_ready = False
        caller.calls.cancel(call)
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert [control.deadline for _, control in controls(caller)] == deadlines
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_call_with_a_waiter_may_start() -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 60)
    caller.receive_reply(started("17"))
    assert call.has_started
    assert sent(caller) == []
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    caller.calls.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("reply", [returned("17", "value"), started("17", worker=None)], ids=["a value", "no worker"])
async def test_any_other_late_reply_is_discarded(reply: Reply) -> None:
    caller = Caller()
    caller.receive_reply(reply)
    assert caller.publishing.published == []
    assert len(caller.channel.acked_through) == 1


@pytest.mark.gen_test
async def test_closing_the_client_cancels_calls_in_flight() -> None:
    caller = Caller()
    published, waiting, replied = (a_call(id) for id in ("published", "waiting", "replied"))
    for call in (published, replied):
        caller.calls.send(call, 60)
    caller.receive_reply(returned("replied", "value"))
    caller.consuming.is_ready = False
    caller.calls.send(waiting, 60)
    caller.calls.close()
    assert sent(caller) == [("task.t", "published", "canceled")]
    assert await replied == "value"
    for call in (published, waiting):
        with pytest.raises(errors.ConnectionError, match="closed"):
            await call


@pytest.mark.gen_test
@pytest.mark.parametrize("has_started", [True, False])
async def test_workers_are_sent_a_cancel_for_a_call_that_timed_out(has_started: bool) -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 0.01)
    if has_started:
        caller.receive_reply(started("17"))
    with pytest.raises(errors.TimeoutError if has_started else errors.ExpirationError):
        await call
    assert sent(caller) == [("task.t", "17", "timeout")]


@pytest.mark.gen_test
async def test_a_call_with_a_reply_in_time_sends_no_cancel() -> None:
    caller = Caller()
    call = a_call("17")
    caller.calls.send(call, 0.01)
    caller.receive_reply(returned("17", "value"))
    assert await call == "value"
    end = asyncio.get_running_loop().time() + 0.01 + REPLY_MARGIN + 0.05
    await until(lambda: asyncio.get_running_loop().time() > end)
    assert sent(caller) == []
    caller.calls.close()


@pytest.mark.gen_test
async def test_an_unconfirmed_call_that_is_canceled_is_not_published_again() -> None:
    caller = Caller()
    call = a_call("17", persistent=True)
    caller.calls.send(call, 60)
    caller.publishing.confirm_all(ConfirmStatus.LOST)
    caller.calls.cancel(call)
    caller.calls.send_waiting()
    assert [one.key for one in caller.publishing.published if one.exchange == ""] == ["crew.tasks.t"]
    caller.calls.close()


@pytest.mark.gen_test
async def test_a_cancel_of_a_call_whose_confirm_was_lost_is_sent_after_the_reconnect() -> None:
    """The broker may have it, and a worker may run it."""
    caller = Caller()
    call = a_call("17", deadline=time.time() + 60)
    caller.calls.send(call, 60)
    caller.publishing.is_ready = False
    caller.publishing.confirm_all(ConfirmStatus.LOST)
    caller.calls.cancel(call)
    caller.publishing.is_ready = True
    caller.calls.send_waiting()
    assert sent(caller) == [("task.t", "17", "canceled")]
    caller.calls.close()

"""Canceled calls in a worker: running, waiting, or not delivered yet."""

import time

import pytest

from crew.protocol.message import Control, Outcome
from crew.worker.execution.interrupt import InterruptReason
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker


@pytest.mark.gen_test
async def test_a_cancel_of_an_unknown_call_changes_nothing() -> None:
    worker = Worker()
    execution = worker.starts("runs")
    worker.consumer.cancel(Control(id="unknown", reason="canceled"))
    assert worker.executor.interrupts == []
    assert worker.replies() == []
    worker.finish(execution)
    assert worker.outcomes() == [("runs", Outcome.RETURNED)]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("reason", "outcome"), [(InterruptReason.CANCELED, Outcome.CANCELED), (InterruptReason.TIMEOUT, Outcome.TIMED_OUT)]
)
async def test_a_running_call_that_is_canceled_is_interrupted_and_gets_one_reply(
    reason: InterruptReason, outcome: Outcome
) -> None:
    worker = Worker()
    execution = worker.starts()
    worker.consumer.cancel(Control(id="17", reason=reason))
    assert worker.executor.interrupts == [(execution, reason)]
    assert worker.outcomes() == [("17", outcome)]
    worker.finish(execution)
    worker.publishing.confirm_all()
    assert worker.outcomes() == [("17", outcome)]
    assert worker.channel.acked == [execution.delivery.tag]
    assert not worker.consumer.has_work()


@pytest.mark.gen_test
async def test_the_limit_of_a_canceled_call_is_recorded_in_the_shared_state() -> None:
    """So that the supervisor kills a process that is stalled in the call."""
    worker = Worker()
    execution = worker.starts(deadline=None)
    assert worker.shared_state.limits(0) == []
    worker.consumer.cancel(Control(id="17", reason="canceled"))
    assert worker.shared_state.limits(0) == [execution.due]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_waiting_call_that_is_canceled_gets_its_reply_at_once_and_never_starts() -> None:
    worker = Worker()
    runs = worker.starts("runs")
    delivery = worker.receives(id="waits")
    worker.consumer.cancel(Control(id="waits", reason="canceled"))
    assert worker.outcomes() == [("waits", Outcome.CANCELED)]
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    worker.finish(runs)
    await until(lambda: not worker.consumer.has_work())
    assert worker.executor.executions == []
    assert worker.outcomes() == [("waits", Outcome.CANCELED), ("runs", Outcome.RETURNED)]


@pytest.mark.gen_test
async def test_a_canceled_call_is_not_requeued() -> None:
    worker = Worker()
    worker.starts("runs")
    revoked, waits = worker.receives(id="canceled"), worker.receives(id="waits")
    worker.consumer.cancel(Control(id="canceled", reason="canceled"))
    await worker.consumer.drain()
    worker.publishing.confirm_all()
    assert worker.channel.requeued == [waits.tag]
    assert worker.channel.acked == [revoked.tag]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_that_was_canceled_before_its_delivery_does_not_start() -> None:
    worker = Worker()
    deadline = round(time.time()) + 60.0
    worker.revoked.add(Control(id="17", reason="canceled", deadline=deadline))
    delivery = worker.receives(deadline=deadline)
    assert worker.executor.executions == []
    assert worker.outcomes() == [("17", Outcome.CANCELED)]
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    worker.receives(id="18")
    assert [one.call.id for one in worker.executor.executions] == ["18"]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_that_is_canceled_before_its_start_is_handled_is_acknowledged_once() -> None:
    """A second acknowledgement of a delivery breaks the connection."""
    worker = Worker(slots=2)
    worker.receives(id="1")
    delivery = worker.receives(id="2", persistent=False)
    execution = worker.executor.executions[1]
    worker.consumer.cancel(Control(id="2", reason="canceled"))
    worker.consumer.starts.handle(execution)
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_late_cancel_does_not_affect_the_next_call_of_the_same_id() -> None:
    worker = Worker()
    before, deadline = round(time.time()) + 30.0, round(time.time()) + 60.0
    worker.starts("nightly", deadline=deadline)
    worker.consumer.cancel(Control(id="nightly", reason="canceled", deadline=before))
    assert worker.executor.interrupts == []
    worker.consumer.cancel(Control(id="nightly", reason="canceled", deadline=deadline))
    assert len(worker.executor.interrupts) == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_job_that_is_canceled_before_its_start_is_handled_has_no_heartbeat() -> None:
    worker = Worker(slots=2)
    worker.receives(is_job=True)
    (execution,) = worker.executor.executions
    worker.consumer.cancel(Control(id="17", reason="canceled"))
    worker.consumer.starts.handle(execution)
    worker.finish(execution)
    assert repr(worker.jobs.heartbeat) == "<Heartbeat of 0 jobs>"
    worker.consumer.stop()
    worker.jobs.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message_id", "others"),
    [("message-2", "message-1"), (None, "message-1"), ("message-2", "17")],
    ids=["both have a message id", "the running call has none", "the canceled call had none"],
)
async def test_a_cancel_that_names_a_message_does_not_affect_another_call_of_its_id(
    message_id: str | None, others: str
) -> None:
    worker = Worker()
    worker.starts("17", message_id=message_id)
    worker.consumer.cancel(Control(id="17", reason="canceled", message_id=others))
    assert worker.executor.interrupts == []
    worker.consumer.cancel(Control(id="17", reason="canceled", message_id=message_id or "17"))
    assert len(worker.executor.interrupts) == 1
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_the_cancel_of_a_job_does_not_affect_a_call_of_the_same_id() -> None:
    worker = Worker()
    worker.starts("17")
    worker.consumer.cancel(Control(id="17", reason="canceled", is_job=True))
    assert worker.executor.interrupts == []
    worker.consumer.stop()

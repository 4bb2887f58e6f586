"""Calls that are acknowledged when they start, and calls that exceed the acknowledgement timeout."""

import asyncio
import logging
import time

import msgspec
import pytest

from crew.protocol import failure, topology
from crew.protocol.message import Outcome
from crew.worker.consumer.admission import CRASH_COUNT_DELAY
from tests.support.deliveries import RecordingChannel, an_execution
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker


@pytest.mark.gen_test
async def test_a_call_of_a_long_task_is_acknowledged_when_it_starts_and_once() -> None:
    worker = Worker(long=True)
    delivery = worker.receives()
    assert worker.channel.acked == [delivery.tag]
    worker.finish()
    worker.publishing.confirm_all()
    assert worker.channel.acked == [delivery.tag]
    assert worker.outcomes() == [("17", Outcome.RETURNED)]


@pytest.mark.gen_test
async def test_a_waiting_call_of_a_long_task_is_not_acknowledged_and_is_requeued() -> None:
    worker = Worker(long=True)
    worker.starts(id="runs")
    waits = worker.receives(id="waits")
    assert waits.tag not in worker.channel.acked
    worker.consumer.on_busy()
    assert worker.channel.requeued == [waits.tag]
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("long", [True, False])
async def test_a_call_that_runs_once_does_not_start_if_the_broker_will_redeliver_it(long: bool) -> None:
    """Its connection was lost before it could be acknowledged."""
    worker = Worker(long=long, slots=2)
    worker.starts(id="first")
    worker.receives(id="second", persistent=long)
    execution = worker.executor.executions[1]
    worker.channel.is_open = False
    worker.consumer.starts.handle(execution)
    assert execution.result is not None
    assert execution.result.outcome is None
    worker.consumer.on_ended(execution)
    assert [one for one in worker.all_replies() if one.id == "second"] == []
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("long", [True, False])
async def test_a_lost_acknowledgement_is_repeated_and_the_call_does_not_run_twice(
    long: bool,
) -> None:
    worker = Worker(long=long, slots=2)
    deadline = time.time() + 60
    worker.starts(deadline=deadline, persistent=long)
    worker.channel.is_open = False
    worker.consumer.on_lost()
    worker.channel = RecordingChannel()
    again = worker.receives(deadline=deadline, persistent=long, redelivered=True)
    assert len(worker.executor.executions) == 1
    assert worker.channel.acked == [again.tag], "otherwise the broker would wait for the acknowledgement"
    worker.finish()
    worker.publishing.confirm_all()
    assert worker.channel.acked == [again.tag]


@pytest.mark.gen_test
async def test_a_long_call_that_killed_a_process_is_not_retried_even_if_it_is_persistent() -> None:
    """The process died after the call was recorded and before its acknowledgement was sent."""
    worker = Worker(long=True)
    execution = worker.starts()
    worker.shared_state.record_crash(0, -11)
    worker.executor.held.remove(execution)
    worker.receives(redelivered=True, deadline=time.time() + 60)
    assert worker.executor.executions == []
    (reply,) = worker.replies()
    assert reply.outcome is Outcome.WORKER_LOST
    assert "was killed by SIGSEGV" in failure.decode(reply.body.data).message
    assert worker.sent_to(topology.PARKED) == []


# --- draining -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_long_call_that_a_drain_interrupts_is_published_again_after_its_clean_up() -> None:
    worker = Worker(long=True)
    execution = worker.starts()
    worker.consumer.interrupt_all()
    worker.consumer.on_decided(execution)
    assert worker.sent_to("crew.tasks.t") == [], "it still cleans up, and must not run twice at a time"
    worker.finish(execution)
    await until(lambda: worker.sent_to("crew.tasks.t"))
    worker.publishing.confirm_all()
    assert worker.replies() == []
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_long_call_that_runs_on_after_its_interrupt_gets_a_reply_and_is_not_retried() -> None:
    worker = Worker(long=True)
    worker.starts()
    worker.consumer.interrupt_all()
    worker.consumer.settle_all()
    assert worker.outcomes() == [("17", Outcome.WORKER_LOST)]
    assert worker.sent_to("crew.tasks.t") == []
    worker.consumer.stop()


# --- acknowledgement timeout ----------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("long", [False, True])
async def test_a_task_that_exceeds_the_acknowledgement_timeout_is_logged_with_advice(
    caplog: pytest.LogCaptureFixture, long: bool
) -> None:
    worker = Worker(long=long, slots=2)
    too_long = worker.starts(id="too_long")
    too_long.times.started = time.monotonic() - 3.5
    worker.starts("innocent", task="other")
    with caplog.at_level(logging.ERROR):
        worker.consumer.on_lost(3.0)
    logged = "acknowledgement timeout exceeded: the broker redelivers the call: write @Task('t', long=True), "
    fields = " call_id=too_long task=t running=4 broker_timeout=3"
    messages = [one.getMessage() for one in caplog.records]
    assert [text.startswith(logged) and text.endswith(fields) for text in messages] == [True] * (not long)
    worker.consumer.stop()


# --- crashes that are not counted yet -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_redelivery_waits_until_the_crash_of_its_process_is_counted() -> None:
    worker = Worker()
    elsewhere = an_execution()
    elsewhere.call = msgspec.structs.replace(elsewhere.call, id="17")
    worker.shared_state.begin(0, elsewhere)
    worker.receives(redelivered=True)
    assert worker.executor.executions == []
    worker.shared_state.record_crash(0, -9)
    await until(lambda: worker.executor.executions)
    assert worker.executor.executions[0].attempt == 2
    worker.consumer.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("lost", [True, False])
async def test_a_redelivery_that_waits_for_the_crash_count_does_not_run_if_lost_or_draining(lost: bool) -> None:
    worker = Worker()
    elsewhere = an_execution()
    elsewhere.call = msgspec.structs.replace(elsewhere.call, id="17")
    worker.shared_state.begin(0, elsewhere)
    delivery = worker.receives(redelivered=True)
    channel = worker.channel
    if lost:
        channel.is_open = False
        worker.consumer.on_lost()
        await asyncio.sleep(CRASH_COUNT_DELAY)
        await asyncio.sleep(0.01)
    else:
        await worker.consumer.drain()
        await until(lambda: channel.requeued == [delivery.tag])
    assert worker.executor.executions == []
    worker.consumer.stop()

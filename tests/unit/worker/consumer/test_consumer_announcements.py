"""Announced starts, and the stack of a timed out task."""

import time

import pytest

from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome
from crew.worker.consumer.prefetch import SETTLED
from crew.worker.execution.interrupt import InterruptReason
from tests.support.waiting import until
from tests.unit.worker.consumer.test_consumer import Worker

# --- announcing -----------------------------------------------------------------------------------------------------


def announced(worker: Worker) -> list[str]:
    """Ids of the calls whose start was announced."""
    return [reply.id for reply in worker.all_replies() if reply.outcome is Outcome.STARTED]


@pytest.mark.gen_test
async def test_a_start_is_announced_once_before_the_task_runs() -> None:
    """The task may never release the GIL, so that the I/O thread could not announce it later."""
    worker = Worker()
    worker.receives()
    (execution,) = worker.executor.executions
    assert worker.consumer.starts.need(execution) == "announce"
    worker.consumer.starts.handle(execution)
    assert announced(worker) == ["17"]
    assert worker.consumer.starts.need(execution) != "announce"
    worker.consumer.on_started_long_ago(execution)
    assert announced(worker) == ["17"]
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_start_is_announced_as_soon_as_the_broker_is_back() -> None:
    """Otherwise a client could not repeat a cancel that the process has missed."""
    worker = Worker()
    worker.publishing.is_ready = False
    worker.receives()
    (execution,) = worker.executor.executions
    worker.consumer.starts.handle(execution)
    assert announced(worker) == []
    worker.publishing.is_ready = True
    await until(lambda: announced(worker) == ["17"])
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_call_of_a_quick_task_is_not_announced() -> None:
    worker = Worker()
    for number in range(SETTLED):
        worker.finish(worker.starts(f"{number}"))
    before = announced(worker)
    worker.receives(id="quick")
    (execution,) = worker.executor.executions
    assert worker.consumer.starts.need(execution) != "announce"
    worker.consumer.starts.handle(execution)
    assert announced(worker) == before
    worker.consumer.on_started_long_ago(execution)
    assert announced(worker) == [*before, "quick"], "it takes longer this time"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_each_task_is_measured_separately() -> None:
    worker = Worker()
    for number in range(SETTLED):
        worker.finish(worker.starts(f"{number}"))
    worker.starts("other", task="other")
    assert announced(worker)[-1] == "other"
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_quick_call_that_is_not_persistent_is_acknowledged_before_it_runs() -> None:
    worker = Worker(slots=2)
    for number in range(SETTLED):
        worker.finish(worker.starts(f"{number}"))
    worker.publishing.confirm_all()
    worker.receives(id="runs")
    delivery = worker.receives(id="next", persistent=False)
    execution = worker.executor.executions[1]
    assert worker.consumer.starts.need(execution) == "acknowledge"
    worker.consumer.starts.handle(execution)
    assert worker.channel.acked[-1] == delivery.tag
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_a_quick_job_that_runs_once_is_announced_before_it_is_acknowledged() -> None:
    """If the whole host dies next, no other process knows that the job is in no queue any more."""
    worker = Worker(long=True)
    for number in range(SETTLED):
        worker.finish(worker.starts(f"{number}"))
    delivery = worker.receives(id="job", is_job=True)
    assert delivery.tag not in worker.channel.acked, "its start is not announced yet"
    (execution,) = worker.executor.executions
    assert worker.consumer.starts.need(execution) == "announce"
    worker.consumer.starts.handle(execution)
    assert worker.channel.acked[-1] == delivery.tag
    assert announced(worker)[-1] == "job"
    worker.consumer.stop()


# --- stack of a timed out task --------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("debug", [True, False])
async def test_in_debug_mode_the_caller_gets_the_stack_of_a_timed_out_task(debug: bool) -> None:
    worker = Worker(debug=debug)
    worker.executor.text = "in stubborn_function"
    worker.starts(timeout=0.02)
    await until(worker.replies)
    reported = failure.decode(worker.replies()[0].body.data)
    assert reported.traceback == ("in stubborn_function" if debug else "")
    assert "was interrupted after" in reported.message
    worker.consumer.stop()


@pytest.mark.gen_test
async def test_the_reported_stack_is_that_at_the_interrupt() -> None:
    worker = Worker(debug=True)
    worker.executor.text = "in its clean-up"
    execution = worker.starts()
    execution.interrupt(InterruptReason.TIMEOUT)
    execution.interruption.stopped_at = "in its work"
    worker.consumer.on_decided(execution)
    assert failure.decode(worker.replies()[0].body.data).traceback == "in its work"
    worker.consumer.stop()


# --- the last words of a job ------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_progress_that_a_job_reports_during_its_clean_up_is_sent() -> None:
    worker = Worker()
    execution = worker.starts(is_job=True)
    execution.interrupt(InterruptReason.CANCELED)
    worker.consumer.on_decided(execution)
    execution.latest_progress.put(codec.encode({"cleaned": "up"}, "json"), time.monotonic())
    worker.finish(execution)
    outcomes = [reply.outcome for reply in worker.all_replies() if reply.outcome is not Outcome.STARTED]
    assert outcomes == [Outcome.CANCELED, Outcome.PROGRESS]
    worker.consumer.stop()

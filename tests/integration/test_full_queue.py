"""A full queue (`max_queue=`) refuses calls at once, and loses no accepted call."""

import statistics
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.client import PendingCall
from crew.jobs import JobStatus, JobStore
from crew.jobs.tuning import JobTuning
from crew.protocol.encoding import codec
from tests.integration.conftest import StartWorker
from tests.support import stores
from tests.support.waiting import until

BOUND = 3  # `max_queue` of the task `hold`
REFUSED = 100  # calls, to measure their median time
AT_ONCE = 0.05  # seconds


@pytest.mark.alone
@pytest.mark.gen_test(timeout=30)
async def test_a_call_into_a_full_queue_is_refused_within_50_ms_and_the_others_run(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker("--prefetch", "1", script="bounded.py")
    async with Client(broker_url) as client:
        running = client.call(prefix + "hold", 2)
        await until(lambda: running.has_started)
        waiting = await fill(client, prefix + "hold", 0)
        assert len(waiting) == BOUND
        seconds = [await time_until_refused(client, prefix + "hold") for _ in range(REFUSED)]
        assert statistics.median(seconds) < AT_ONCE
        assert not running.done()
        assert [await call for call in [running, *waiting]] == [2, 0, 0, 0]
        assert await client.call(prefix + "hold", 0) == 0


@pytest.mark.gen_test(timeout=30)
async def test_a_retry_is_accepted_by_a_full_queue(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    """The broker silently drops dead letters that it moves into a full queue with reject-publish."""
    start_worker("--prefetch", "1", script="bounded.py")
    async with Client(broker_url) as client:
        retried = client.call(prefix + "flaky", True, expiration=10)
        await until(lambda: retried.has_started)
        busy = client.call(prefix + "busy", 1.5)
        await until(lambda: busy.has_started)  # otherwise the next call may run before it
        waiting = await fill(client, prefix + "flaky", False)
        assert not busy.done()
        assert await retried == 2
        assert [await call for call in waiting] == [1] * len(waiting)


@pytest.mark.gen_test(timeout=30)
async def test_a_job_is_not_replaced_by_one_that_a_full_queue_refuses(
    broker_url: str, prefix: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker("--prefetch", "1", script="bounded.py")
    async with Client(broker_url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        running = client.call(prefix + "hold", 1.5)
        await until(lambda: running.has_started)
        job = await client.submit(prefix + "hold", 0, unique="skip", unique_key="k")
        await fill(client, prefix + "hold", 0)
        with pytest.raises(crew.Overloaded):
            await client.submit(prefix + "hold", 0, unique="replace", unique_key="k")
        assert await job.status() is JobStatus.QUEUED
        assert await job.result(timeout=10) == 0


@pytest.mark.gen_test(timeout=30)
async def test_a_job_accepted_during_an_outage_waits_until_its_queue_has_room(
    broker_url: str, prefix: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    """After an outage, many such jobs are published at the same time."""
    start_worker("--prefetch", "1", script="bounded.py")
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db", tuning=JobTuning(retry_full=0.2))
    async with Client(broker_url, store=store) as client:
        running = client.call(prefix + "hold", 1.0)
        await until(lambda: running.has_started)
        await fill(client, prefix + "hold", 0)
        await client.jobs.ready()
        body = codec.encode(0)
        fields = {"id": str(uuid.uuid4()), "created": time.time(), "publish_at": time.time()}
        job = await stores.added(client.jobs.store, task=prefix + "hold", body=body, **fields)
        assert (await client.jobs.wait(job.id, 10)).status is JobStatus.SUCCESS
        assert running.done()


@pytest.mark.gen_test(timeout=30)
async def test_a_full_queue_accepts_requeued_deliveries(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """A requeue is not a publish, so a worker that drains with a full buffer loses no call."""
    worker = start_worker("--prefetch", "10", script="bounded.py")
    async with Client(broker_url) as client:
        running = client.call(prefix + "hold", 0.5, expiration=20)
        held = [client.call(prefix + "hold", 0, expiration=20) for _ in range(BOUND)]
        waiting = await fill(client, prefix + "hold", 0)
        worker.stop()
        assert await running == 0.5
        start_worker(script="bounded.py")
        assert [await call for call in [*held, *waiting]] == [0] * (len(held) + len(waiting))
        assert len(held) + len(waiting) >= BOUND


async def fill(client: Client, task: str, data: object) -> list[PendingCall[Any]]:
    """Call `task` until its queue is full; returns the accepted calls."""
    taken: list[PendingCall[Any]] = []
    while True:
        call = client.call(task, data, expiration=20)
        await until(lambda call=call: call.done() or call.is_confirmed)  # type: ignore[misc]
        if call.done():
            with pytest.raises(crew.Overloaded, match="is full"):
                await call
            return taken
        taken.append(call)


async def time_until_refused(client: Client, task: str) -> float:
    """Seconds until a call is refused."""
    began = time.monotonic()
    with pytest.raises(crew.Overloaded):
        await client.call(task)
    return time.monotonic() - began

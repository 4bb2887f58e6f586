"""Jobs from submit to result, with a real broker, real workers and a real store."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crew import Client, ExpirationError, UnknownTask, errors
from crew.errors import UnknownJob
from crew.jobs import JobStatus, JobStore
from crew.jobs.publisher import RETRY_UNKNOWN
from crew.jobs.reports.report import canceled as canceled_report
from crew.jobs.specification import specify
from crew.jobs.tuning import DEFAULT, JobTuning
from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from tests.integration.conftest import StartWorker
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.stores import count_by_status
from tests.support.waiting import until

SOON = 10.0  # seconds
MakeClient = Callable[..., Client]


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """URL of a job store for this test only; so the store's queue is for this test only, too."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def gateway(broker_url: str, store_url: str) -> MakeClient:
    """Makes a client with the job store of this test, as each gateway process has one."""

    def make(url: str = broker_url, *, tuning: JobTuning = DEFAULT, **options: Any) -> Client:
        return Client(url, store=JobStore(store_url, tuning=tuning), **options)

    return make


@pytest.mark.gen_test(timeout=30)
async def test_a_job_runs_and_its_value_and_record_are_kept(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "echo", {"n": [1, "ä"]})
        assert await handle.result(timeout=SOON) == {"n": [1, "ä"]}
        assert await handle.status() is JobStatus.SUCCESS
        job = await client.jobs.get(handle.id)
        assert job.enqueued is not None
        assert job.started is not None
        assert job.ended is not None
        assert job.created <= job.enqueued <= job.started + 0.001 <= job.ended + 0.001  # workers report milliseconds
        assert await handle.cancel() is False
        assert await handle.result() == {"n": [1, "ä"]}


@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("same", [{"idempotency_key": "k"}, {"unique": "skip"}])
async def test_concurrent_duplicate_submits_to_an_unknown_task_are_all_refused(
    gateway: MakeClient, prefix: str, same: dict[str, Any]
) -> None:
    async with gateway() as one, gateway() as two:
        for task in (f"{prefix}unserved{number}" for number in range(10)):
            clients = [one, one, two, two]
            submits = (client.submit(task, **same) for client in clients)
            refusals = await asyncio.gather(*submits, return_exceptions=True)
            assert [type(error) for error in refusals] == [UnknownTask] * len(clients)


@pytest.mark.gen_test(timeout=30)
async def test_concurrent_submits_with_one_key_at_two_gateways_create_one_job(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as one, gateway() as two:
        submits = [client.submit(prefix + "echo", 1, idempotency_key="k") for client in (one, two, one, two)]
        handles = await asyncio.gather(*submits)
        assert len({handle.id for handle in handles}) == sum(handle.is_new for handle in handles) == 1
        assert await handles[0].result(timeout=SOON) == 1


@pytest.mark.gen_test(timeout=30)
async def test_the_result_of_the_first_job_of_a_new_store_is_received(
    broker_url: str, tmp_path: Path, shared_worker: Process, prefix: str
) -> None:
    for n in range(5):
        async with Client(broker_url, store=JobStore(f"sqlite:///{tmp_path}/{n}.db")) as client:
            handle = await client.submit(prefix + "echo", n)
            assert await handle.result(timeout=SOON) == n


@pytest.mark.gen_test(timeout=30)
async def test_a_closed_service_accepts_no_job(gateway: MakeClient, prefix: str) -> None:
    async with gateway() as client:
        await client.jobs.ready()
    with pytest.raises(errors.ConnectionError, match="the client was closed"):
        await client.jobs.submit(prefix + "echo", wait_for_worker=True)


@pytest.mark.gen_test(timeout=30)
async def test_events_of_a_job_arrive_while_it_runs(gateway: MakeClient, shared_worker: Process, prefix: str) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "sleep", 0.5)
        events = [job async for job in handle.events()]
        assert [job.status for job in events if job.started] == [JobStatus.STARTED, JobStatus.SUCCESS]
        assert events[0].status in (JobStatus.QUEUED, JobStatus.STARTED)  # the job may start before the first event
        assert [job.status async for job in handle.events()] == [JobStatus.SUCCESS]


@pytest.mark.gen_test(timeout=30)
async def test_a_job_has_status_error_if_its_task_raises(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "bad", "raise")
        with pytest.raises(errors.TaskFailed, match="missing"):
            await handle.result(timeout=SOON)
        assert await handle.status() is JobStatus.ERROR


@pytest.mark.gen_test(timeout=30)
async def test_a_result_with_timeout_zero_does_not_wait(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "sleep", 60)
        for zero in (0, "0s"):
            with pytest.raises(errors.TimeoutError, match="has not ended in time; it goes on"):
                await handle.result(timeout=zero)
        with pytest.raises(ValueError, match=r"timeout must be at least 0 and at most \d+ seconds, not -1"):
            await handle.result(timeout=-1)
        assert await handle.cancel()
        with pytest.raises(errors.Canceled):
            await handle.result(timeout=0)


@pytest.mark.gen_test(timeout=30)
async def test_a_job_that_runs_longer_than_its_timeout_has_status_timeout(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "sleep", 60, timeout=0.3)
        with pytest.raises(errors.TimeoutError):
            await handle.result(timeout=SOON)
        assert await handle.status() is JobStatus.TIMEOUT


@pytest.mark.gen_test(timeout=30)
async def test_a_job_continues_when_a_wait_for_its_result_times_out(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "sleep", 1)
        with pytest.raises(errors.TimeoutError, match="has not ended in time; it goes on"):
            await handle.result(timeout=0.1)
        assert await handle.result(timeout="10") == 1


@pytest.mark.gen_test(timeout=30)
async def test_a_running_job_is_interrupted_within_a_second_of_its_cancel(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    worker = shared_worker.from_now()
    async with gateway() as client:
        handle = await client.submit(prefix + "cancellable", "x")
        await until(lambda: "RUNS x" in worker.output, timeout=SOON)
        canceled = time.monotonic()
        assert await handle.cancel()
        assert await handle.status() is JobStatus.CANCELED
        await until(lambda: "INTERRUPTED x" in worker.output, timeout=SOON)
        assert time.monotonic() - canceled < 1.0
        with pytest.raises(errors.Canceled):
            await handle.result(timeout=SOON)
        assert await handle.cancel() is False


@pytest.mark.gen_test(timeout=30)
async def test_a_task_that_was_never_served_is_refused_and_leaves_no_record(gateway: MakeClient, prefix: str) -> None:
    async with gateway() as client:
        with pytest.raises(UnknownTask, match=f"no worker has ever served task '{prefix}unserved'"):
            await client.submit(prefix + "unserved")
        assert await count_by_status(client.jobs.store) == {}


@pytest.mark.gen_test(timeout=30)
async def test_a_job_may_wait_for_the_first_worker_of_its_task(
    gateway: MakeClient, start_worker: StartWorker, prefix: str
) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "echo", 5, wait_for_worker=True)
        assert await handle.status() is JobStatus.QUEUED
        await client.jobs.store.postpone(handle.id, time.time() + RETRY_UNKNOWN)  # as after a failed publish
        await asyncio.to_thread(start_worker)
        started = time.monotonic()
        assert await handle.result(timeout=SOON) == 5
        assert time.monotonic() - started < 2.0, "the start of the worker makes the job due"


@pytest.mark.gen_test(timeout=30)
async def test_a_job_that_was_canceled_or_expired_in_the_queue_never_starts(
    gateway: MakeClient, start_worker: StartWorker, prefix: str
) -> None:
    worker = await asyncio.to_thread(start_worker)
    await asyncio.to_thread(worker.stop)
    async with gateway() as client:
        canceled = await client.submit(prefix + "note", {"name": "canceled"})
        expired = await client.submit(prefix + "note", {"name": "expired"}, expiration=0.2)
        short_lived = await client.submit(prefix + "note", {"name": "short-lived"}, failure_ttl=0.1)
        active = await client.submit(prefix + "note", {"name": "active"})
        assert await canceled.cancel()
        assert await short_lived.cancel()
        with pytest.raises(ExpirationError):
            await expired.result(timeout=SOON)
        worker = await asyncio.to_thread(start_worker)
        assert (await active.result(timeout=SOON))["name"] == "active"
        assert worker.output.count("STARTED") == 1, worker.output
        assert (await canceled.status(), await expired.status()) == (JobStatus.CANCELED, JobStatus.EXPIRED)
        with pytest.raises(UnknownJob):  # as soon as its message has left the queue
            async with asyncio.timeout(SOON):
                while await short_lived.status():
                    await asyncio.sleep(0.05)


@pytest.mark.gen_test(timeout=30)
async def test_a_job_whose_cancel_reached_no_worker_is_interrupted_at_its_start(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    """The list of revoked jobs does not cover it: the gateway died before it sent the cancel to the workers."""
    worker = shared_worker.from_now()
    async with gateway() as client:
        store, link = client.jobs.store, client.links.publishing
        await client.jobs.ready()
        await client.submit(prefix + "echo", 1)  # the worker is connected, and has its list
        job = (await store.insert(specify(prefix + "cancellable", "unheard"))).job
        await store.apply([canceled_report(job.id, at=time.time(), message="by a gateway that died")])
        call = job.call(store.queue)
        fields = properties.of_call(call, now=time.time(), clock=link.clock_offset)
        await link.publish("", topology.task_queue_name(job.task), fields, call.body.data, mandatory=True)
        await until(lambda: "RUNS unheard" in worker.output, timeout=SOON)
        await until(lambda: "INTERRUPTED unheard" in worker.output, timeout=SOON)
        assert (await store.get(job.id)).status is JobStatus.CANCELED


@pytest.mark.gen_test(timeout=30)
async def test_a_job_that_no_worker_takes_in_time_expires(gateway: MakeClient, prefix: str) -> None:
    async with gateway() as client:
        handle = await client.submit(prefix + "note", {"name": "late"}, wait_for_worker=True, expiration=0.2)
        with pytest.raises(ExpirationError, match="no worker took the job in time"):
            await handle.result(timeout=SOON)
        assert await handle.status() is JobStatus.EXPIRED


@pytest.mark.gen_test(timeout=30)
async def test_a_job_submitted_while_the_broker_is_unavailable_runs_after_the_reconnect(
    gateway: MakeClient,
    broker_url: str,
    proxied: Callable[[str], Proxy],
    shared_worker: Process,
    prefix: str,
) -> None:
    proxy = proxied(broker_url)
    async with gateway(proxy.url, tuning=JobTuning(publish_patience=0.2)) as client:
        proxy.cut(refuse=True)
        handle = await client.submit(prefix + "echo", 7)
        assert await handle.status() is JobStatus.QUEUED
        proxy.heal()
        healed = time.monotonic()
        assert await handle.result(timeout=20) == 7
        assert time.monotonic() - healed < 8, "an unpublished job does not wait for the end of its lease"


@pytest.mark.gen_test(timeout=30)
async def test_a_large_result_is_stored_compressed(gateway: MakeClient, shared_worker: Process, prefix: str) -> None:
    value = "all work and no play " * 100_000
    async with gateway() as client:
        handle = await client.submit(prefix + "echo", value)
        assert await handle.result(timeout=SOON) == value
        stored = (await client.jobs.get(handle.id)).result
        assert stored is not None
        assert len(value) > 2_000_000
        assert len(stored.data) < 100_000
        assert stored.content_encoding == "gzip"
        assert codec.decode(stored) == value


@pytest.mark.gen_test(timeout=30)
async def test_a_result_that_is_too_large_for_the_store_is_an_error(
    broker_url: str, store_url: str, shared_worker: Process, prefix: str
) -> None:
    async with Client(broker_url, store=JobStore(store_url, max_result=1_000)) as client:
        handle = await client.submit(prefix + "echo", "x" * 2_000)
        with pytest.raises(
            errors.TaskError, match="the result has 2002 bytes, more than max_result of the store, 1000"
        ):
            await handle.result(timeout=SOON)


@pytest.mark.gen_test(timeout=30)
async def test_a_job_can_be_awaited_and_canceled_at_another_gateway(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as one, gateway() as other:
        handle = await one.submit(prefix + "sleep", 60)
        waiting = asyncio.ensure_future(other.jobs.wait(handle.id, 20))
        assert await other.jobs.cancel(handle.id)
        assert (await waiting).status is JobStatus.CANCELED
        with pytest.raises(errors.Canceled):
            await handle.result(timeout=SOON)


@pytest.mark.gen_test(timeout=30)
async def test_waits_for_results_fail_when_the_client_is_closed(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    client = gateway()
    async with client:
        handle = await client.submit(prefix + "sleep", 1)
        waiting = [asyncio.ensure_future(handle.result()) for _ in range(20)]
        await asyncio.sleep(0)
    for one in waiting:
        with pytest.raises(errors.ConnectionError, match="the client was closed"):
            await one


@pytest.mark.gen_test(timeout=30)
async def test_unique_skip_returns_the_active_job_and_replace_cancels_it(
    gateway: MakeClient, shared_worker: Process, prefix: str
) -> None:
    async with gateway() as client:
        first = await client.submit(prefix + "sleep", 0.5, unique="skip")
        second = await client.submit(prefix + "sleep", 0.5, unique="skip")
        assert (second.id, second.is_new) == (first.id, False)
        third = await client.submit(prefix + "sleep", 0.5, unique="replace")
        assert third.id != first.id
        assert await first.status() is JobStatus.CANCELED
        assert await third.result(timeout=SOON) == 0.5


@pytest.mark.gen_test
async def test_the_error_of_a_client_without_a_store_names_the_argument(broker_url: str) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(errors.SettingsError, match="this client has no job store; make it with Client"):
            await client.submit("t")

"""A gateway that was down commits all waiting reports before it ends jobs."""

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from crew import Client, ConnectionError
from crew.amqp import Link
from crew.amqp.channel import QueueDepth
from crew.jobs import JobStatus, JobStore
from crew.jobs.job import Job
from crew.jobs.maintenance.maintenance import Maintenance
from crew.jobs.maintenance.watch import LOST_AFTER
from crew.jobs.maintenance.watermark import MAX_GAP, Watermark
from crew.jobs.reports.report import Report
from crew.jobs.store.update import MAX_PURGED, AppliedReport
from crew.jobs.tuning import JobTuning
from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome, Reply, Run
from tests.support import raw, stores
from tests.support.proxy import Proxy
from tests.support.waiting import until


async def report_success(link: Link, queue: str, job: Job) -> None:
    """Publish the report of a worker that ran the job in time."""
    run = Run(host="host:7", started=job.created, ended=job.created)
    reply = Reply(id=job.id, outcome=Outcome.RETURNED, body=codec.encode("done"), persistent=True, run=run)
    await link.publish("", queue, properties.of_reply(reply), reply.body.data, mandatory=True)


@pytest.mark.gen_test(timeout=30)
async def test_a_job_that_ran_in_time_while_no_gateway_was_up_does_not_expire(
    broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with many reports and a slow store."""
    url, now = f"sqlite:///{tmp_path}/jobs.db", time.time()
    async with stores.opened(url) as (store,), Client(broker_url) as worker:
        jobs = await asyncio.gather(
            *(
                stores.added(store, id=str(uuid.uuid4()), created=now - 9, enqueued=now - 9, start_by=now - 5)
                for _ in range(150)
            )
        )
        link = worker.links.publishing
        await link.declare_once(*topology.jobs_queue(store.id))
        for job in jobs:
            await report_success(link, store.queue, job)
    slow = JobStore(url, tuning=JobTuning(prefetch=10, reconnect=0.1))
    apply_each = slow.apply_each

    async def apply_slowly(reports: Sequence[Report]) -> list[AppliedReport | BaseException]:
        await asyncio.sleep(0.05)
        return await apply_each(reports)

    monkeypatch.setattr(slow, "apply_each", apply_slowly)
    async with Client(broker_url, store=slow) as client:
        ended = [await client.jobs.wait(job.id, 10) for job in jobs]
        assert Counter(job.status for job in ended) == {JobStatus.SUCCESS: 150}


class Watched:
    """Maintenance that has consumed reports long enough to end jobs; records what it ends.

    Attributes:
        ready: the number of reports that wait in the queue.
    """

    def __init__(self, store: JobStore, publisher: object | None = None, *, max_gap: float = MAX_GAP) -> None:
        self.ended: list[Report] = []
        self.rounds = self.ready = 0
        self.is_store_unavailable = False
        self.skipped = 0.0  # seconds of its clock
        self._purge = store.purge
        store.purge = self._purge_or_fail  # type: ignore[method-assign]
        self.watermark = Watermark(
            depth=self._depth,
            settle=self._settle,
            publish=lambda event: None,
            clock=self.clock,
            monotonic=lambda: time.monotonic() + self.skipped,
            max_gap=max_gap,
        )
        self.watermark.on_consuming()
        self.watermark._observed_since = -math.inf
        self.maintenance = Maintenance(
            store,
            publisher or _NoPublisher(),  # type: ignore[arg-type]
            self.watermark,
            apply=self._apply,
            clock=self.clock,
            interval=0.02,
        )

    def clock(self) -> float:
        """Epoch seconds."""
        return time.time() + self.skipped

    async def _depth(self) -> QueueDepth:
        return QueueDepth(self.ready, 1)

    async def _settle(self) -> None:
        """A store that is unavailable commits no report."""
        while self.is_store_unavailable:
            await asyncio.sleep(0.01)

    async def _purge_or_fail(self, now: float, *, most: int = MAX_PURGED) -> int:
        self.rounds += 1
        if self.is_store_unavailable:
            raise ConnectionError("the job store is unavailable")  # as the other steps do
        return await self._purge(now, most=most)

    async def _apply(self, reports: Sequence[Report]) -> None:
        self.ended.extend(reports)

    async def wait_for_a_round(self) -> None:
        """Wait until all services have run a step."""
        seen = self.rounds
        await until(lambda: self.rounds > seen + 2)


class _NoPublisher:
    can_publish = False


class _Broken:
    """A publisher whose broker is lost while it publishes the first job."""

    can_publish = True
    tried = 0

    async def publish(self, job: Job) -> bool:
        self.tried += 1
        self.can_publish = False
        return False


Fault = Callable[[Watched], None]


def store_is_unavailable(watched: Watched) -> None:
    watched.is_store_unavailable = True


def process_is_stopped(watched: Watched) -> None:
    """Also when its host sleeps: the maintenance then notices a gap in time."""


def reports_are_waiting(watched: Watched) -> None:
    watched.ready = 1


@pytest.mark.parametrize("fault", [store_is_unavailable, process_is_stopped, reports_are_waiting])
@pytest.mark.gen_test(timeout=20)
async def test_a_gateway_that_missed_reports_does_not_end_a_job_as_lost(fault: Fault, tmp_path: Path) -> None:
    max_gap = MAX_GAP if fault is process_is_stopped else math.inf
    async with stores.opened(f"sqlite:///{tmp_path}/jobs.db") as (store,):
        job = await stores.added(store, created=time.time())
        await store.apply([stores.started(job)])
        watched = Watched(store, max_gap=max_gap)
        watched.maintenance.start()
        await watched.wait_for_a_round()
        fault(watched)
        await watched.wait_for_a_round()
        watched.skipped = LOST_AFTER + 10
        await watched.wait_for_a_round()
        if watched.is_store_unavailable:  # the report that it could not commit
            await store.apply([stores.started(job, at=watched.clock())])
            watched.is_store_unavailable = False
        await watched.wait_for_a_round()
        await watched.maintenance.stop()
        assert watched.ended == []


@pytest.mark.gen_test(timeout=60)
async def test_a_job_expires_only_after_every_gateway_has_committed_its_reports(
    broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that has left the queue may not be committed yet at another gateway."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    one, two = [JobStore(url, tuning=JobTuning(reconnect=0.1)) for _ in range(2)]
    apply_each, may_commit = two.apply_each, asyncio.Event()

    async def apply_late(reports: Sequence[Report]) -> list[AppliedReport | BaseException]:
        await may_commit.wait()
        return await apply_each(reports)

    monkeypatch.setattr(two, "apply_each", apply_late)
    async with Client(broker_url, store=one) as client, Client(broker_url, store=two) as other:
        for gateway in (client, other):
            await gateway.jobs.ready()
            await gateway.jobs._link.ready()
        added = stores.added
        jobs = [await added(one, id=str(uuid.uuid4()), created=time.time()) for _ in range(10)]
        silent = await added(one, id=str(uuid.uuid4()), created=time.time(), start_by=time.time())
        for job in jobs:
            await report_success(client.links.publishing, one.queue, job)
        await until(lambda: len(other.jobs._inbox) > 0)
        held = [one.report.id for one in other.jobs._inbox._held()]
        await asyncio.sleep(3.0)  # by now it would expire
        assert (await one.get(silent.id)).status is JobStatus.QUEUED, "a report is held at the other gateway"
        assert {(await one.get(id)).status for id in held} == {JobStatus.QUEUED}
        may_commit.set()
        assert (await client.jobs.wait(silent.id, 20)).status is JobStatus.EXPIRED
        assert {(await one.get(job.id)).status for job in jobs} == {JobStatus.SUCCESS}


@pytest.mark.gen_test(timeout=10)
async def test_republishing_stops_at_the_first_job_when_the_broker_is_lost(tmp_path: Path) -> None:
    """The maintenance has other steps to run, and other gateways may publish the jobs."""
    async with stores.opened(f"sqlite:///{tmp_path}/jobs.db") as (store,):
        for _ in range(5):
            await stores.added(store, publish_at=time.time())
        broken = _Broken()
        watched = Watched(store, broken)
        watched.maintenance.start()
        await watched.wait_for_a_round()
        await watched.maintenance.stop()
        assert broken.tried == 1


@pytest.mark.gen_test(timeout=30)
async def test_reports_that_are_redelivered_while_the_store_is_unavailable_are_held_once(
    broker_url: str, proxied: Callable[[str], Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred messages of up to 16 MiB are held; a hundred more for each connection would exhaust the memory."""
    proxy, url = proxied(broker_url), f"sqlite:///{tmp_path}/jobs.db"
    is_unavailable, store = True, JobStore(url, tuning=JobTuning(retry_store=0.05))
    apply_each = store.apply_each

    async def apply_or_fail(reports: Sequence[Report]) -> list[AppliedReport | BaseException]:
        if is_unavailable:
            return [ConnectionError("the job store is unavailable") for _ in reports]
        return await apply_each(reports)

    monkeypatch.setattr(store, "apply_each", apply_or_fail)
    async with Client(proxy.url, store=store) as client:
        await client.jobs.ready()
        link, job_inbox = client.jobs._link, client.jobs._inbox
        await link.ready()
        jobs = [await stores.added(store, id=str(uuid.uuid4()), created=time.time()) for _ in range(5)]
        for job in jobs:
            await report_success(client.links.publishing, store.queue, job)
        await until(lambda: len(job_inbox) == len(jobs))
        proxy.cut()
        await until(lambda: not link.is_ready)
        await link.ready()
        await asyncio.sleep(0.2)  # by now all of them were redelivered
        await until(lambda: len(job_inbox) == len(jobs))
        settling = asyncio.create_task(job_inbox.settle())
        await asyncio.sleep(0.2)
        assert not settling.done(), "the queue is empty, but the store does not have the reports yet"
        is_unavailable = False
        assert {(await client.jobs.wait(job.id, 10)).status for job in jobs} == {JobStatus.SUCCESS}
        await until(lambda: not len(job_inbox))
        await settling


@pytest.mark.gen_test(timeout=30)
async def test_a_job_whose_confirm_is_late_is_accepted_and_published_once(
    broker_url: str, proxied: Callable[[str], Proxy], tmp_path: Path, prefix: str
) -> None:
    proxy, task = proxied(broker_url), prefix + "late"
    await asyncio.to_thread(raw.declare, broker_url, topology.task_queue(task))
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db", tuning=JobTuning(confirm_patience=0.3, lease=0.5))
    async with Client(proxy.url, store=store) as client:
        first = await client.submit(task)
        proxy.freeze()
        async with asyncio.timeout(5):
            late = await client.submit(task)
        await asyncio.sleep(1.5)  # three leases
        kept = await store.get(late.id)
        assert kept.enqueued is None
        assert kept.publish_at is not None
        assert kept.publish_at < time.time() + 0.6, "it has the lease of the tuning"
        proxy.heal()
        async with asyncio.timeout(5):
            while (await client.jobs.get(late.id)).enqueued is None:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.6)
        assert first.id != late.id
    assert await asyncio.to_thread(raw.depth, broker_url, topology.task_queue_name(task)) == 2

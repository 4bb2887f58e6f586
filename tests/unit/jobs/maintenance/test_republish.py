"""Jobs that the broker does not have are published again, and end if that can never succeed."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from crew.errors import MessageRefused, Overloaded, TooLarge, UnknownTask
from crew.jobs import JobStatus
from crew.jobs.job import LEASE, Job
from crew.jobs.maintenance.republish import MAX_CLAIMED, Republish
from crew.jobs.publisher import Publisher
from crew.jobs.reports.report import Report
from crew.jobs.tuning import DEFAULT
from tests.support.a_job import a_specification, opened


class FakePublisher:
    """Notes the published jobs; `error` is raised for each, and after `lost_after` jobs the broker is lost."""

    def __init__(self, *, error: Exception | None = None, lost_after: int = 1_000_000) -> None:
        self.jobs: list[Job] = []
        self._error, self._lost_after = error, lost_after
        self.can_publish = True

    async def publish(self, job: Job) -> bool:
        self.jobs.append(job)
        self.can_publish = len(self.jobs) < self._lost_after
        if self._error is not None:
            raise self._error
        return self.can_publish


async def nothing(reports: Sequence[Report]) -> None:
    raise AssertionError("no job may end")


@pytest.mark.gen_test
async def test_due_jobs_are_claimed_and_published_in_batches(tmp_path: Path) -> None:
    now, count = time.time(), MAX_CLAIMED + 5
    async with opened(tmp_path) as store:
        inserts = [store.insert(a_specification(publish_at=now - 1)) for _ in range(count)]
        due = [inserted.job.id for inserted in await asyncio.gather(*inserts)]
        await store.insert(a_specification(publish_at=now + 86_400))  # another gateway publishes it
        publisher = FakePublisher()
        await Republish(store, cast(Publisher, publisher), apply=nothing).step()
        assert sorted(job.id for job in publisher.jobs) == sorted(due)
        assert all(job.body is not None and (job.publish_at or 0) >= now + LEASE for job in publisher.jobs)


@pytest.mark.gen_test
async def test_nothing_is_claimed_while_the_broker_takes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(publish_at=1.0))).job
        publisher = FakePublisher()
        publisher.can_publish = False
        await Republish(store, cast(Publisher, publisher), apply=nothing).step()
        assert (await store.get(job.id)).publish_at == 1.0, "another gateway may publish it at once"


@pytest.mark.gen_test
async def test_publishing_stops_at_the_job_at_which_the_broker_is_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(5):
            await store.insert(a_specification(publish_at=1.0))
        publisher = FakePublisher(lost_after=2)
        await Republish(store, cast(Publisher, publisher), apply=nothing).step()
        assert len(publisher.jobs) == 2


@pytest.mark.gen_test
async def test_a_job_whose_queue_is_full_is_published_again_later(tmp_path: Path) -> None:
    now = time.time()
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(publish_at=1.0))).job
        publisher = FakePublisher(error=Overloaded("full"))
        await Republish(store, cast(Publisher, publisher), apply=nothing, clock=lambda: now).step()
        kept = await store.get(job.id)
        assert (kept.status, kept.publish_at) == (JobStatus.QUEUED, now + DEFAULT.retry_full)


@pytest.mark.parametrize("error", [UnknownTask("never served"), MessageRefused("not accepted"), TooLarge("too large")])
@pytest.mark.gen_test
async def test_a_job_that_can_never_be_published_ends_with_the_reason(error: Exception, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(publish_at=1.0))).job

        async def apply(reports: Sequence[Report]) -> None:
            await store.apply(reports)

        await Republish(store, cast(Publisher, FakePublisher(error=error)), apply=apply).step()
        ended = await store.get(job.id)
        assert ended.status is JobStatus.ERROR
        assert str(error) in (ended.failure or b"").decode()
        assert type(error).__name__ in (ended.failure or b"").decode()

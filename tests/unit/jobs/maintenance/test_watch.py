"""A job whose worker is lost ends, and a job whose worker reports does not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from crew.jobs import JobStatus, JobStore
from crew.jobs.job import Job
from crew.jobs.maintenance.watch import LOST_AFTER, Watch
from crew.jobs.reports.report import Report
from crew.protocol.message import Run
from tests.support.a_job import HOST, NOW, a_specification, opened
from tests.support.fake_watermark import FakeWatermark

SEEN = NOW + 60


def heartbeat(job: Job, at: float, *, is_only_one: bool = True) -> Report:
    run = Run(host=HOST, started=SEEN, is_only_one=is_only_one)
    return Report(id=job.id, status=JobStatus.STARTED, at=at, run=run)


async def status_after(store: JobStore, job: Job, watermark: FakeWatermark, now: float) -> JobStatus:
    """The status of the job after a step at `now`."""

    async def apply(reports: Sequence[Report]) -> None:
        await store.apply(reports)

    await Watch(store, watermark, apply=apply, clock=lambda: now).step()
    return (await store.get(job.id)).status


@pytest.mark.parametrize(
    ("now", "at", "observed", "status"),
    [
        (SEEN + LOST_AFTER + 0.1, SEEN + LOST_AFTER + 0.1, LOST_AFTER, JobStatus.ERROR),
        (SEEN + LOST_AFTER, SEEN + LOST_AFTER, LOST_AFTER, JobStatus.STARTED),  # not due
        (SEEN + LOST_AFTER + 9, SEEN + LOST_AFTER + 8, LOST_AFTER, JobStatus.STARTED),  # a report may come
        (SEEN + LOST_AFTER + 9, SEEN + LOST_AFTER + 9, LOST_AFTER - 1, JobStatus.STARTED),  # after an outage
    ],
)
@pytest.mark.gen_test
async def test_a_job_is_lost_if_no_report_was_published_before_the_watermark(
    now: float, at: float, observed: float, status: JobStatus, tmp_path: Path
) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        await store.apply([heartbeat(job, SEEN)])
        assert await status_after(store, job, FakeWatermark(at, observed), now) == status


@pytest.mark.gen_test
async def test_a_job_whose_heartbeat_is_committed_by_the_watermark_is_not_lost(tmp_path: Path) -> None:
    now = SEEN + LOST_AFTER + 9
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        await store.apply([heartbeat(job, SEEN)])

        class Committing(FakeWatermark):
            """The heartbeat is committed before the watermark passes."""

            async def has_passed(self, at: float, *, observed: float) -> bool:
                await store.apply([heartbeat(job, now - 1)])
                return await super().has_passed(at, observed=observed)

        assert await status_after(store, job, Committing(), now) is JobStatus.STARTED


@pytest.mark.gen_test
async def test_a_job_that_the_broker_would_deliver_again_is_not_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification())).job
        await store.apply([heartbeat(job, SEEN, is_only_one=False)])
        watermark = FakeWatermark()
        assert await status_after(store, job, watermark, SEEN + 86_400) is JobStatus.STARTED
        assert watermark.asked == []

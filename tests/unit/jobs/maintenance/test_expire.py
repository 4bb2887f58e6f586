"""A queued job expires when its due time is before the watermark, and no other job does."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from crew.jobs import JobStatus, JobStore
from crew.jobs.maintenance.expire import REPORT_DELAY, Expire
from crew.jobs.reports.report import Report
from crew.jobs.tuning import DEFAULT
from crew.protocol.message import Run
from tests.support.a_job import HOST, NOW, a_specification, opened
from tests.support.fake_watermark import FakeWatermark

START_BY = NOW + 60


class Ending:
    """Expires the jobs of `store` at `now`."""

    def __init__(self, store: JobStore, watermark: FakeWatermark, now: float) -> None:
        self._store = store
        self.expire = Expire(store, watermark, apply=self._apply, clock=lambda: now)

    async def _apply(self, reports: Sequence[Report]) -> None:
        await self._store.apply(reports)

    async def status(self, id: str) -> JobStatus:
        await self.expire.step()
        return (await self._store.get(id)).status


@pytest.mark.parametrize(
    ("start_by", "now", "at", "status"),
    [
        (START_BY, START_BY + REPORT_DELAY, START_BY + REPORT_DELAY, JobStatus.EXPIRED),
        (START_BY, START_BY + 3_600, START_BY + 3_600, JobStatus.EXPIRED),
        (START_BY, START_BY + REPORT_DELAY - 0.01, START_BY + 3_600, JobStatus.QUEUED),  # not due
        (START_BY, START_BY + REPORT_DELAY, START_BY + REPORT_DELAY - 0.01, JobStatus.QUEUED),  # a report may come
        (None, START_BY + 3_600, START_BY + 3_600, JobStatus.QUEUED),  # without a limit
    ],
)
@pytest.mark.gen_test
async def test_a_job_expires_if_its_due_time_is_before_the_watermark(
    start_by: float | None, now: float, at: float, status: JobStatus, tmp_path: Path
) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(start_by=start_by))).job
        assert await Ending(store, FakeWatermark(at), now).status(job.id) == status


@pytest.mark.gen_test
async def test_a_job_whose_start_was_reported_does_not_expire(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(start_by=START_BY))).job
        run = Run(host=HOST, started=START_BY - 1)
        ending = Ending(store, FakeWatermark(), START_BY + 3_600)
        await store.apply([Report(id=job.id, status=JobStatus.STARTED, at=START_BY, run=run)])
        assert await ending.status(job.id) is JobStatus.STARTED


@pytest.mark.gen_test
async def test_a_job_whose_start_is_committed_by_the_watermark_does_not_expire(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(start_by=START_BY))).job
        run = Run(host=HOST, started=START_BY - 1)

        class Committing(FakeWatermark):
            """The report is committed before the watermark passes."""

            async def has_passed(self, at: float, *, observed: float) -> bool:
                await store.apply([Report(id=job.id, status=JobStatus.STARTED, at=START_BY, run=run)])
                return await super().has_passed(at, observed=observed)

        assert await Ending(store, Committing(), START_BY + 3_600).status(job.id) is JobStatus.STARTED


@pytest.mark.gen_test
async def test_no_job_expires_until_workers_had_time_to_reconnect(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(start_by=START_BY))).job
        watermark = FakeWatermark(observed=DEFAULT.reconnect - 0.1)
        assert await Ending(store, watermark, START_BY + 60).status(job.id) is JobStatus.QUEUED
        watermark.observed = DEFAULT.reconnect
        assert await Ending(store, watermark, START_BY + 60).status(job.id) is JobStatus.EXPIRED


@pytest.mark.gen_test
async def test_without_an_overdue_job_the_watermark_is_not_moved(tmp_path: Path) -> None:
    """It costs requests to the broker and to the other gateways."""
    async with opened(tmp_path) as store:
        await store.insert(a_specification(start_by=START_BY))
        watermark = FakeWatermark()
        await Ending(store, watermark, START_BY).expire.step()
        assert watermark.asked == []


@pytest.mark.gen_test
async def test_an_expired_job_stays_revoked_as_its_message_may_be_in_a_queue(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        job = (await store.insert(a_specification(start_by=START_BY))).job
        await Ending(store, FakeWatermark(), START_BY + 60).expire.step()
        assert await store.revoked([job.task], 10) == [job.id]

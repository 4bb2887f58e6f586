"""Opens job stores for tests, in SQLite or PostgreSQL, and makes jobs and reports for them."""

import collections
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from crew.jobs import JobQuery, JobStore
from crew.jobs.job import Job, JobStatus
from crew.jobs.reports.report import Report
from crew.jobs.specification import Specification
from crew.jobs.store.query import MAX_PAGE
from crew.protocol.message import Body, Run, new_id

JSON = "application/json"


@asynccontextmanager
async def opened(*urls: str, **options: Any) -> AsyncIterator[list[JobStore]]:
    """A store for each URL, open until the end of the block."""
    stores = [JobStore(url, **options) for url in urls]
    try:
        for store in stores:
            await store.open()
        yield stores
    finally:
        for store in stores:
            await store.close()


def job(task: str = "resize", **fields: Any) -> Job:
    """A job that is not in a store."""
    fields = {"id": new_id(), "created": time.time(), "body": Body(b'{"width":640}', JSON), **fields}
    return Job(task=task, **fields)


def specification(*, unique: str | None = None, may_exist: bool = False, **fields: Any) -> Specification:
    """The specification of a job that is not in a store yet."""
    return Specification(job=job(**fields), unique=unique, may_exist=may_exist)


async def added(store: JobStore, **fields: Any) -> Job:
    """Insert a new job; returns it."""
    return (await store.insert(specification(**fields))).job


def report(job: Job, status: JobStatus | None, *, at: float | None = None, **fields: Any) -> Report:
    """A report about a job."""
    return Report(id=job.id, status=status, at=time.time() if at is None else at, **fields)


def started(job: Job, *, at: float | None = None, attempt: int = 1, host: str = "host:7") -> Report:
    """A worker's report that the job has started."""
    at = time.time() if at is None else at
    return report(job, JobStatus.STARTED, at=at, run=Run(host=host, started=at, attempt=attempt, is_only_one=True))


def succeeded(job: Job, value: bytes = b"1", *, at: float | None = None) -> Report:
    """A worker's report that the task has returned."""
    at = time.time() if at is None else at
    run = Run(host="host:7", started=at - 0.25, ended=at)
    return report(job, JobStatus.SUCCESS, at=at, run=run, result=Body(value, JSON))


async def count_by_status(store: JobStore) -> dict[JobStatus, int]:
    """Number of jobs by status; statuses without jobs are left out."""
    counts: collections.Counter[JobStatus] = collections.Counter()
    cursor: str | None = None
    while True:
        page = await store.page(JobQuery(statuses=None, limit=MAX_PAGE, cursor=cursor))
        counts.update(job.status for job in page.jobs)
        if (cursor := page.cursor) is None:
            return dict(counts)

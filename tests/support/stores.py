"""Job stores for tests, in SQLite or PostgreSQL, and jobs to put into them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from crew.jobs import JobStore
from crew.jobs.job import Job, JobStatus
from crew.jobs.report import Report
from crew.jobs.specification import Specification
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
    """A job that nobody has recorded."""
    fields = {"id": new_id(), "created": time.time(), "body": Body(b'{"width":640}', JSON), **fields}
    return Job(task=task, **fields)


def specification(*, unique: str | None = None, may_exist: bool = False, **fields: Any) -> Specification:
    """A job that is to be recorded."""
    return Specification(job=job(**fields), unique=unique, may_exist=may_exist)


async def added(store: JobStore, **fields: Any) -> Job:
    """A job that is recorded."""
    return (await store.insert(specification(**fields))).job


def report(job: Job, status: JobStatus | None, *, at: float | None = None, **fields: Any) -> Report:
    """Something that happened to it."""
    return Report(id=job.id, status=status, at=time.time() if at is None else at, **fields)


def started(job: Job, *, at: float | None = None, attempt: int = 1, host: str = "host:7") -> Report:
    """A worker says that it runs it."""
    at = time.time() if at is None else at
    return report(job, JobStatus.STARTED, at=at, run=Run(host=host, started=at, attempt=attempt, is_only_one=True))


def succeeded(job: Job, value: bytes = b"1", *, at: float | None = None) -> Report:
    """A worker says that its task has returned."""
    at = time.time() if at is None else at
    run = Run(host="host:7", started=at - 0.25, ended=at)
    return report(job, JobStatus.SUCCESS, at=at, run=run, result=Body(value, JSON))

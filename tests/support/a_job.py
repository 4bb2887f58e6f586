"""Makes jobs, specifications and SQLite job stores for tests."""

import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from crew.jobs import JobStore
from crew.jobs.job import Job
from crew.jobs.specification import Specification
from crew.protocol.encoding import codec

NOW = 1_700_000_000.0
HOST = "host:17"

_numbers = itertools.count()


def a_job(**fields: Any) -> Job:
    """A job of the task t; each job has a later creation time than the previous one."""
    created = NOW + next(_numbers)
    return Job(**{"id": str(uuid.uuid4()), "task": "t", "body": codec.encode({"n": 1}), "created": created, **fields})


def a_specification(*, unique: str | None = None, may_exist: bool = False, **fields: Any) -> Specification:
    """A job that is not in a store yet."""
    return Specification(job=a_job(**fields), unique=unique, may_exist=may_exist)


@contextlib.asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[JobStore]:
    """An open store in `folder`, closed at the end of the block."""
    store = JobStore(url_of(folder), **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def url_of(folder: Path) -> str:
    """URL of the store in `folder`."""
    return f"sqlite:///{folder}/jobs.db"

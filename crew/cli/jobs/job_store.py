"""The job store of a command, and the service that acts on its jobs: opened for it, and closed when it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from crew.cli.connection import CONNECT_TIMEOUT, one_sentence
from crew.client import Client
from crew.errors import SettingsError
from crew.jobs import JobQuery, JobService, JobStatus, JobStore, Page
from crew.jobs.store.query import MAX_PAGE

T = TypeVar("T")


async def pages(
    store: JobStore, statuses: Sequence[str], task: str | None, size: int = MAX_PAGE
) -> AsyncIterator[Page]:
    """All pages of the jobs with these statuses (none: any), the newest first, up to `size` at a time."""
    limit, cursor = min(size, MAX_PAGE), None
    while True:
        meant = tuple(map(JobStatus, statuses)) or None
        page = await store.page(JobQuery(statuses=meant, task=task, limit=limit, cursor=cursor))
        yield page
        if (cursor := page.cursor) is None:
            return


def with_store(database: str | None, errand: Callable[[JobStore], Awaitable[T]]) -> T:
    """What comes of `errand` with the job store."""

    async def run() -> T:
        async with _opened(database) as store:
            return await errand(store)

    return asyncio.run(run())


def with_service(database: str | None, url: str | None, errand: Callable[[JobService], Awaitable[T]]) -> T:
    """What comes of `errand` with a client of the broker and the job store."""

    async def run() -> T:
        async with _opened(database) as store:
            client = Client(url, name="crew", store=store)
            try:
                with one_sentence():
                    await client.connect(timeout=CONNECT_TIMEOUT)
                return await errand(client.jobs)
            finally:
                await client.close()

    return asyncio.run(run())


@asynccontextmanager
async def _opened(database: str | None) -> AsyncIterator[JobStore]:
    store = JobStore(database)
    if not store.exists:
        raise SettingsError(f"there is no job store {store}: --database or CREW_DATABASE names another")
    await store.open()
    try:
        yield store
    finally:
        await store.close()

"""The job store of a command, and the service for its jobs: opened for the command, and closed at its end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from crew.cli.connection import attempts_not_logged, connect_timeout
from crew.client import Client
from crew.errors import SettingsError
from crew.jobs import JobQuery, JobService, JobStatus, JobStore, Page
from crew.jobs.store.query import MAX_PAGE

T = TypeVar("T")


async def pages(
    store: JobStore, statuses: Sequence[str], task: str | None, size: int = MAX_PAGE
) -> AsyncIterator[Page]:
    """All pages of the jobs with these statuses (none: any), newest first, with up to `size` jobs each."""
    limit, cursor = min(size, MAX_PAGE), None
    while True:
        selected = tuple(map(JobStatus, statuses)) or None
        page = await store.page(JobQuery(statuses=selected, task=task, limit=limit, cursor=cursor))
        yield page
        if (cursor := page.cursor) is None:
            return


def with_store(database: str | None, action: Callable[[JobStore], Awaitable[T]]) -> T:
    """Open the job store for `action`, and return its value."""

    async def run() -> T:
        async with _opened(database) as store:
            return await action(store)

    return _completed(run())


def with_service(
    database: str | None,
    url: str | None,
    action: Callable[[JobService], Awaitable[T]],
    *,
    creates: bool = False,
) -> T:
    """Open the job store and a client for `action`, and return its value.

    Args:
        database, url: of the store and the broker.
        action: gets the service.
        creates: create the store if it does not exist. Default: SettingsError.
    """

    async def run() -> T:
        async with _opened(database, creates=creates) as store:
            client = Client(url, name="crew", store=store)
            try:
                with attempts_not_logged():
                    await client.connect(timeout=connect_timeout())
                return await action(client.jobs)
            finally:
                await client.close()

    return _completed(run())


def _completed(step: Coroutine[Any, Any, T]) -> T:
    """Run `step`. SIGTERM cancels it, as Ctrl-C does; raising in whatever runs would break a write to the store."""

    async def run() -> T:
        main = asyncio.current_task()
        assert main is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
        return await step

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def _opened(database: str | None, *, creates: bool = False) -> AsyncIterator[JobStore]:
    store = JobStore(database)
    if not creates and not store.exists:
        raise SettingsError(f"job store {store} does not exist: name another with --database or CREW_DATABASE")
    await store.open()
    try:
        yield store
    finally:
        await store.close()

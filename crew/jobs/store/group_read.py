"""Group read: all jobs that are requested during a SELECT are read by the next SELECT, each job once.

The end of a job may wake thousands of waiters: they share one read of its result.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from crew.jobs.job import Job
from crew.jobs.store.database import Database

MAX_BATCH: Final = 100  # jobs a SELECT: each result has up to 16 MiB

ReadJobs = Callable[[AsyncConnection, Collection[str]], Awaitable[Sequence[Job]]]

_Result = asyncio.Future[Job | None]


class GroupRead:
    """Reads jobs from `database`, with many callers in one SELECT.

    Args:
        read_jobs: returns the existing jobs of some ids.
    """

    def __init__(self, database: Database, read_jobs: ReadJobs) -> None:
        self._database = database
        self._read_jobs = read_jobs
        self._requested: dict[str, list[_Result]] = {}  # by the id of the job
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<GroupRead: {sum(map(len, self._requested.values()))} waiting for {len(self._requested)} jobs>"

    async def get(self, id: str) -> Job | None:
        """The job with this id, as it is now or later; raises ConnectionError if the database is unavailable."""
        loop = asyncio.get_running_loop()
        result: _Result = loop.create_future()
        self._requested.setdefault(id, []).append(result)
        if self._task is None:
            self._task = loop.create_task(self._read(), name="job store reader")
        return await result

    async def drain(self) -> None:
        """Wait until all reads are done."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            while self._requested:
                await self._read_batch(self._take())
        finally:
            self._task = None

    def _take(self) -> dict[str, list[_Result]]:
        """The next batch, without canceled requests."""
        batch: dict[str, list[_Result]] = {}
        while self._requested and len(batch) < MAX_BATCH:
            id = next(iter(self._requested))
            if waiting := [result for result in self._requested.pop(id) if not result.done()]:
                batch[id] = waiting
        return batch

    async def _read_batch(self, batch: dict[str, list[_Result]]) -> None:
        try:
            read = await self._database.fetch(lambda connection: self._read_jobs(connection, set(batch)))
        except Exception as error:
            for result in _waiting(batch.values()):
                result.set_exception(copy.copy(error))  # one shared error would keep the stacks of all who raise it
            return
        known = {job.id: job for job in read}
        for id, results in batch.items():
            for result in _waiting([results]):
                result.set_result(known.get(id))


def _waiting(requested: Iterable[Iterable[_Result]]) -> Iterator[_Result]:
    """The results that were not canceled meanwhile."""
    return (result for results in requested for result in results if not result.done())

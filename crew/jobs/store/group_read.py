"""Group reads: all jobs that are asked for while a SELECT is under way are read by the next one, each of them once.

The end of a job may wake thousands of waiters. They share one read of its result.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from crew.jobs.job import Job
from crew.jobs.store.database import Database

MAX_BATCH: Final = 100  # jobs a SELECT: each result has up to 16 MiB

Look = Callable[[AsyncConnection, Collection[str]], Awaitable[Sequence[Job]]]

_Found = asyncio.Future[Job | None]


class Reader:
    """Reads jobs from `database` by `look`, which gives those that there are of some ids."""

    def __init__(self, database: Database, look: Look) -> None:
        self._database = database
        self._look = look
        self._asked: dict[str, list[_Found]] = {}  # by the id of the job
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Reader: {sum(map(len, self._asked.values()))} wait for {len(self._asked)} jobs>"

    async def get(self, id: str) -> Job | None:
        """The job with this id, no older than this call; raises ConnectionError where the database is away."""
        loop = asyncio.get_running_loop()
        found: _Found = loop.create_future()
        self._asked.setdefault(id, []).append(found)
        if self._task is None:
            self._task = loop.create_task(self._read(), name="job store reader")
        return await found

    async def drain(self) -> None:
        """Wait until everybody has been answered."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            while self._asked:
                await self._answer(self._take())
        finally:
            self._task = None

    def _take(self) -> dict[str, list[_Found]]:
        """The next batch, without those that nobody waits for any longer."""
        batch: dict[str, list[_Found]] = {}
        while self._asked and len(batch) < MAX_BATCH:
            id = next(iter(self._asked))
            if waiting := [found for found in self._asked.pop(id) if not found.done()]:
                batch[id] = waiting
        return batch

    async def _answer(self, batch: dict[str, list[_Found]]) -> None:
        try:
            read = await self._database.look(lambda connection: self._look(connection, set(batch)))
        except Exception as error:
            for found in _waiting(batch.values()):
                found.set_exception(copy.copy(error))  # one that all raise would keep the stack of each of them
            return
        known = {job.id: job for job in read}
        for id, asked in batch.items():
            for found in _waiting([asked]):
                found.set_result(known.get(id))


def _waiting(asked: Iterable[Iterable[_Found]]) -> Iterator[_Found]:
    """Those that were not given up meanwhile."""
    return (found for some in asked for found in some if not found.done())

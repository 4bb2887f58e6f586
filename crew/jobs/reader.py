"""Group reads: who asks for a job while a SELECT is under way gets it with the next one, together with all others.

A job's end may wake thousands that wait, and a SELECT costs more than the rows that it finds.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from crew.jobs.database import Database
from crew.jobs.job import Job

MAX_BATCH: Final = 100  # jobs a SELECT: what they came to has up to 16 MiB each

Look = Callable[[AsyncConnection, Collection[str]], Awaitable[Sequence[Job]]]

_Asked = tuple[str, "asyncio.Future[Job | None]"]


class Reader:
    """Reads jobs from `database` by `look`, which gives those that there are of some ids."""

    def __init__(self, database: Database, look: Look) -> None:
        self._database = database
        self._look = look
        self._asked: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Reader: {len(self._asked)} wait>"

    async def get(self, id: str) -> Job | None:
        """The job with this id, no older than this call; raises ConnectionError where the database is away."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Job | None] = loop.create_future()
        self._asked.append((id, found))
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
                batch, self._asked = self._asked[:MAX_BATCH], self._asked[MAX_BATCH:]
                await self._answer([asked for asked in batch if not asked[1].done()])
        finally:
            self._task = None

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            async with self._database.read() as connection:
                known = {job.id: job for job in await self._look(connection, {id for id, _ in batch})}
        except Exception as error:  # those who ask raise it, each one of its own: it would keep the stack of all
            for _, found in batch:
                if not found.done():
                    found.set_exception(copy.copy(error))
            return
        for id, found in batch:
            if not found.done():
                found.set_result(known.get(id))

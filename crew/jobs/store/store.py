"""The job store: records of jobs in SQLite or PostgreSQL. Concurrent writes share a transaction."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from crew import forks, settings
from crew.errors import CrewError, UnknownJob
from crew.jobs.job import Job
from crew.jobs.quota import Usage
from crew.jobs.reports.report import Report
from crew.jobs.specification import Specification
from crew.jobs.store import insert, query, update
from crew.jobs.store.availability import Availability
from crew.jobs.store.database import Database
from crew.jobs.store.group_commit import GroupCommit
from crew.jobs.store.group_read import GroupRead
from crew.jobs.store.insert import InsertResult
from crew.jobs.store.query import JobQuery, Page
from crew.jobs.store.update import AppliedReport
from crew.jobs.tuning import DEFAULT, JobTuning
from crew.protocol import topology

MAX_RESULT: Final = 16 * 1024 * 1024  # bytes, encoded and compressed


class Store:
    """The records of jobs in a database: `crew.jobs.JobStore` without the service that runs the jobs.

    Args:
        url, max_result, tuning: see `crew.jobs.JobStore`.

    Attributes:
        database_class: makes the pool of connections.

    What its methods raise:
        ConnectionError: the database is unavailable.
        SettingsError: the file is no database, or a newer crew has made its tables.
    """

    database_class: Callable[..., Database] = Database

    def __init__(self, url: str | None = None, *, max_result: int = MAX_RESULT, tuning: JobTuning = DEFAULT) -> None:
        self._url = settings.database_url(url)
        self.tuning = tuning
        self._reset()
        self.max_result = max_result
        forks.register(self)

    def _reset(self) -> None:
        """Start without connections: in a new process, or on another event loop."""
        self._database = self.database_class(self._url, connect_timeout=self.tuning.connect_timeout)
        self._writer = GroupCommit(self._database)
        self._reader = GroupRead(self._database, query.several_with_bodies)
        self._reader_with_results = GroupRead(self._database, query.several_with_results)
        self._reader_with_requests = GroupRead(self._database, query.several_with_requests)
        self._reader_without_bodies = GroupRead(self._database, query.several)

    def __repr__(self) -> str:
        return f"<JobStore {self._database}>"

    def __str__(self) -> str:
        return str(self._database)

    @property
    def queue(self) -> str:
        """Name of the queue for the reports of its jobs; known once the store is open."""
        return topology.jobs_queue_name(self._database.id)

    @property
    def availability(self) -> Availability:
        """Whether the last reads and writes succeeded."""
        return self._database.availability

    @property
    def id(self) -> str:
        """Id of the store, which no other store on the broker has; known once the store is open."""
        return self._database.id

    @property
    def exists(self) -> bool:
        """Whether its file exists; always True for a server."""
        return self._database.exists

    async def open(self) -> None:
        """Connect, and migrate the tables to the newest version; idempotent."""
        await self._database.open()

    async def close(self) -> None:
        """Finish the writes, for up to 5 s if the server does not answer, and disconnect; idempotent."""
        readers = self._reader, self._reader_with_results, self._reader_with_requests, self._reader_without_bodies
        drains = [asyncio.create_task(one.drain()) for one in (self._writer, *readers)]
        _, unfinished = await asyncio.wait(drains, timeout=self.tuning.close_timeout)
        if unfinished:
            self._database.terminate()
            await asyncio.wait(unfinished)
        await self._database.close()

    def reset(self) -> None:
        """Abandon the connections of a closed event loop; the next use opens new ones."""
        self._reset()

    def on_forked(self) -> None:
        """Leave the connections to the parent process; the next use in this child opens new ones."""
        self._database.drop()
        forks.keep_alive(vars(self).copy())
        self._reset()

    # --- writing ----------------------------------------------------------------------------------------------------

    async def insert(self, specification: Specification) -> InsertResult:
        """Insert a job, or find the one that has its unique or idempotency key.

        Raises:
            DuplicateCallId: a job with its id exists.
            KeyReused: its idempotency key was used for another request.
        """
        result = await self._writer.write(insert.insert_jobs, specification)
        if isinstance(result, CrewError):
            raise result
        return result

    async def apply(self, reports: Sequence[Report]) -> list[AppliedReport]:
        """Apply reports to their records; the result of each report."""
        return await self._writer.write_all(update.apply_reports, reports)

    async def apply_each(self, reports: Sequence[Report]) -> list[AppliedReport | BaseException]:
        """As `apply`, but a report that could not be written has the exception as its result."""
        return await self._writer.write_each(update.apply_reports, reports)

    async def mark_enqueued(self, id: str, at: float) -> None:
        """Mark the job as taken by the broker at `at`: it is not published again."""
        await self._writer.write(update.mark_enqueued, (id, at))

    async def postpone(self, id: str, until: float) -> None:
        """Accept the job, and let no gateway publish it before `until`."""
        await self._writer.write(update.postpone, (id, until))

    async def make_due(self, tasks: Collection[str], now: float, *, before: float) -> int:
        """Make the jobs of `tasks` due that wait for a worker and are due until `before`; the count."""
        return await self._writer.write(update.make_due, (tuple(tasks), now, before))

    async def withdraw(self, refused: InsertResult) -> tuple[Job, ...]:
        """Delete a job that the broker refused; the jobs that stay canceled for it."""
        return await self._writer.write(insert.withdraw, refused)

    async def claim(self, now: float, *, until: float, most: int) -> list[Job]:
        """Claim jobs that are due for publishing; no other gateway publishes them before `until`."""
        return await self._writer.write(update.claim, (now, until, most))

    async def delete_result(self, id: str) -> bool:
        """Delete the result of the job; whether there was one."""
        return await self._writer.write(update.delete_results, id)

    async def purge(self, now: float, *, most: int = update.MAX_PURGED) -> int:
        """Delete at most this many records whose time to live is over; the count, 0 when none is left."""
        return await self._writer.write(update.purge, (now, most))

    async def delete_ended(self, ids: Sequence[str]) -> int:
        """Delete the records of those jobs that have ended and are in no queue; the count."""
        return sum(await self._writer.write_all(update.delete_ended, ids))

    # --- reading ----------------------------------------------------------------------------------------------------

    async def get(self, id: str, *, with_bodies: bool = True) -> Job:
        """The job with this id; raises UnknownJob."""
        return _known(id, await (self._reader if with_bodies else self._reader_without_bodies).get(id))

    async def get_with_result(self, id: str) -> Job:
        """The job with this id, with its result and without its payload; raises UnknownJob."""
        return _known(id, await self._reader_with_results.get(id))

    async def get_with_request(self, id: str) -> Job:
        """The job with this id, without its result; of a URL job with its payload; raises UnknownJob."""
        return _known(id, await self._reader_with_requests.get(id))

    async def check(self) -> None:
        """Read a row; raises ConnectionError or SettingsError if the database cannot be used."""
        await self._database.fetch(lambda connection: query.check(connection))

    async def ids_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Ids of jobs that begin with `prefix`."""
        async with self._database.read() as connection:
            return await query.ids_with_prefix(connection, prefix, most)

    async def several(self, ids: Collection[str]) -> list[Job]:
        """The existing jobs with these ids, without their bodies."""
        return await self._database.fetch(lambda connection: query.several(connection, ids))

    async def page(self, jobs: JobQuery) -> Page:
        """A page of jobs, the newest first; raises ValueError for a bad cursor or limit."""
        return await self._database.fetch(lambda connection: query.page(connection, jobs))

    async def usage(self) -> list[Usage]:
        """The number and bytes of queued and running jobs, by token and host."""
        return await self._database.fetch(lambda connection: query.usage(connection))

    async def revoked(self, tasks: Collection[str], most: int) -> list[str]:
        """Ids of the revoked jobs of `tasks`: they ended while their messages may be in a queue."""
        return await self._database.fetch(lambda connection: query.revoked(connection, tasks, most))

    async def overdue(self, now: float, most: int) -> list[str]:
        """Ids of the queued jobs that no worker took in time."""
        return await self._database.fetch(lambda connection: query.overdue(connection, now, most))

    async def without_report(self, since: float, most: int) -> list[str]:
        """Ids of the started jobs without a report of a worker since `since`."""
        return await self._database.fetch(lambda connection: query.without_report(connection, since, most))


def _known(id: str, job: Job | None) -> Job:
    if job is None:
        raise UnknownJob(f"there is no job {id}")
    return job

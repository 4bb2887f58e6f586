"""The job store: records of jobs in SQLite or PostgreSQL. What is written at the same time shares its transactions."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from crew import forks, settings
from crew.errors import CrewError, UnknownJob
from crew.jobs.job import Job
from crew.jobs.quota import Usage
from crew.jobs.report import Report
from crew.jobs.store import insert, query, update
from crew.jobs.store.availability import Availability
from crew.jobs.store.database import Database
from crew.jobs.store.group_commit import Writer
from crew.jobs.store.group_read import Reader
from crew.jobs.store.insert import Admitted, Candidate
from crew.jobs.store.query import JobQuery, Page
from crew.jobs.store.update import Settled
from crew.protocol import topology

LAST_WORDS: Final = 5.0  # seconds for what is still to be written
MAX_RESULT: Final = 16 * 1024 * 1024  # bytes as they travel


class Store:
    """Records of jobs in a database: `crew.jobs.JobStore` without what runs them.

    Args:
        url, max_result: as of `crew.jobs.JobStore`.

    What its methods raise:
        ConnectionError: the database is away.
        SettingsError: it is none, or a newer crew has made its tables.
    """

    def __init__(self, url: str | None = None, *, max_result: int = MAX_RESULT) -> None:
        self._url = settings.database_url(url)
        self._connect_anew()
        self.max_result = max_result
        forks.register(self)

    def _connect_anew(self) -> None:
        """Have connections of its own, in a process or on a loop that had none of them."""
        self._database = Database(self._url)
        self._writer = Writer(self._database)
        self._reader = Reader(self._database, query.several_with_bodies)
        self._reader_with_results = Reader(self._database, query.several_with_results)
        self._reader_with_requests = Reader(self._database, query.several_with_requests)
        self._reader_without_bodies = Reader(self._database, query.several)

    def __repr__(self) -> str:
        return f"<JobStore {self._database}>"

    def __str__(self) -> str:
        return str(self._database)

    @property
    def queue(self) -> str:
        """Name of the queue over which is heard of its jobs; known once it is open."""
        return topology.jobs_queue_name(self._database.id)

    @property
    def availability(self) -> Availability:
        """Whether it can be used, as its last uses have shown."""
        return self._database.availability

    @property
    def id(self) -> str:
        """What tells it from other stores on one broker; known once it is open."""
        return self._database.id

    @property
    def exists(self) -> bool:
        """Whether somebody has made it; True where only opening it tells."""
        return self._database.exists

    async def open(self) -> None:
        """Connect, and bring the tables to the newest version; idempotent."""
        await self._database.open()

    async def close(self) -> None:
        """Write what is to be written, unless a server is silent for `LAST_WORDS`, and disconnect; idempotent."""
        readers = self._reader, self._reader_with_results, self._reader_with_requests, self._reader_without_bodies
        drains = [asyncio.create_task(one.drain()) for one in (self._writer, *readers)]
        _, silent = await asyncio.wait(drains, timeout=LAST_WORDS)
        if silent:
            self._database.hang_up()
            await asyncio.wait(silent)
        await self._database.close()

    def begin_anew(self) -> None:
        """Its event loop was closed: leave its connections, and open others with the next use."""
        self._connect_anew()

    def on_forked(self) -> None:
        """This is a forked child: the connections are the parent's, and others are opened with the next use."""
        self._database.drop()
        forks.keep_alive(self._database, self._writer, self._reader, self._reader_without_bodies)
        self._connect_anew()

    # --- writing ----------------------------------------------------------------------------------------------------

    async def admit(self, candidate: Candidate) -> Admitted:
        """Record a job.

        Raises:
            DuplicateTaskId: its id was taken.
            KeyReused: its idempotency key was used for something else.
        """
        admitted = await self._writer.write(insert.admit, candidate)
        if isinstance(admitted, CrewError):
            raise admitted
        return admitted

    async def settle(self, reports: Sequence[Report]) -> list[Settled]:
        """Write what is known of jobs; for each report what became of it."""
        return await self._writer.write_all(update.settle, reports)

    async def settle_each(self, reports: Sequence[Report]) -> list[Settled | BaseException]:
        """As `settle`, with the exception in place of what became of each report that could not be written."""
        return await self._writer.write_each(update.settle, reports)

    async def mark_enqueued(self, id: str, at: float) -> None:
        """The broker has the job, which was published then."""
        await self._writer.write(update.mark_enqueued, (id, at))

    async def postpone(self, id: str, until: float) -> None:
        """Nobody publishes the job before then."""
        await self._writer.write(update.postpone, (id, until))

    async def hasten(self, tasks: Collection[str], now: float, *, before: float) -> int:
        """Have jobs of `tasks` published now that wait for a worker, until `before` at most; how many they are."""
        return await self._writer.write(update.hasten, (tuple(tasks), now, before))

    async def withdraw(self, refused: Admitted) -> tuple[Job, ...]:
        """Forget a job that was not accepted after all; the jobs that stay given up for it."""
        return await self._writer.write(insert.withdraw, refused)

    async def claim(self, now: float, *, until: float, most: int) -> list[Job]:
        """Jobs that are to be published now; nobody else publishes them until then."""
        return await self._writer.write(update.claim, (now, until, most))

    async def delete_result(self, id: str) -> bool:
        """Delete what came of the job; whether there was anything."""
        return await self._writer.write(update.delete_results, id)

    async def purge(self, now: float) -> int:
        """Delete some records whose time is over; how many they were, 0 when none is left."""
        return await self._writer.write(update.purge, now)

    async def forget(self, ids: Sequence[str]) -> int:
        """Delete those of these records whose jobs have ended, and are in no queue any more; how many they were."""
        return sum(await self._writer.write_all(update.forget, ids))

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
        await self._database.look(lambda connection: query.check(connection))

    async def ids_from(self, beginning: str, most: int) -> list[str]:
        """Ids of jobs that begin so."""
        async with self._database.read() as connection:
            return await query.ids_from(connection, beginning, most)

    async def several(self, ids: Collection[str]) -> list[Job]:
        """Those that there are of the jobs with these ids, without their bodies."""
        return await self._database.look(lambda connection: query.several(connection, ids))

    async def page(self, jobs: JobQuery) -> Page:
        """A page of jobs, the newest first; raises ValueError where cursor or limit cannot be one."""
        return await self._database.look(lambda connection: query.page(connection, jobs))

    async def usage(self) -> list[Usage]:
        """What is queued and running, by token and host."""
        return await self._database.look(lambda connection: query.usage(connection))

    async def given_up(self, tasks: Collection[str], most: int) -> list[str]:
        """Ids of the jobs of `tasks` that were ended while their messages may be in a queue."""
        return await self._database.look(lambda connection: query.given_up(connection, tasks, most))

    async def overdue(self, now: float, most: int) -> list[str]:
        """Ids of the queued jobs that no worker took in time."""
        return await self._database.look(lambda connection: query.overdue(connection, now, most))

    async def silent(self, since: float, most: int) -> list[str]:
        """Ids of the started jobs of which no worker has said anything since then."""
        return await self._database.look(lambda connection: query.silent(connection, since, most))


def _known(id: str, job: Job | None) -> Job:
    if job is None:
        raise UnknownJob(f"there is no job {id}")
    return job

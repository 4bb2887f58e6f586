"""A gateway with a real job store and no broker; the test says, as workers do, what becomes of its jobs."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from crew.gateway import routes
from crew.jobs import Job, JobService, JobStatus, JobStore
from crew.jobs.report import Report
from crew.protocol.message import Run
from tests.support.a_job import a_specification, url_of
from tests.support.event_stream import AS_STREAM, Stream
from tests.support.site import Site, site


class Desk:
    """A gateway with jobs, and all that can be said of them."""

    def __init__(self, web: Site) -> None:
        self.web = web
        self.jobs: JobService = web.crew.jobs
        self._streams: list[Stream] = []

    async def job(self, **fields: Any) -> Job:
        """One that is recorded, and queued unless it is said otherwise."""
        inserted = await self.jobs.store.insert(a_specification(created=time.time(), **fields))
        return inserted.job

    async def say(self, job: Job, status: JobStatus | None, *, attempt: int = 1, **fields: Any) -> None:
        """A worker says what has become of the job."""
        run = Run(host="host:7", started=time.time(), attempt=attempt)
        await self.jobs._apply([Report(id=job.id, status=status, at=time.time(), run=run, **fields)])

    async def progress(self, job: Job, value: Any) -> None:
        """Its task says how far it is."""
        await self.say(job, None, progress=msgspec.json.encode(value))

    async def stream(self, job: Job, query: str = "", headers: Mapping[str, str] = AS_STREAM) -> Stream:
        """Begin to listen."""
        stream = await Stream.begun(self.web.port, f"/jobs/{job.id}/events{query}", headers)
        self._streams.append(stream)
        return stream

    async def listening(self, job: Job, query: str = "", headers: Mapping[str, str] = AS_STREAM) -> Stream:
        """Listen, and have heard that there is a stream."""
        stream = await self.stream(job, query, headers)
        assert (await stream.head())[0] == 200
        return stream

    async def get(self, job: Job | str, query: str = "", headers: Mapping[str, str] = {}) -> HTTPResponse:
        """The whole answer about its events."""
        return await self.ask("GET", f"/jobs/{job if isinstance(job, str) else job.id}/events{query}", headers)

    async def ask(self, method: str, path: str, headers: Mapping[str, str] = {}) -> HTTPResponse:
        """The whole answer."""
        client = AsyncHTTPClient(force_instance=True)
        try:
            return await client.fetch(
                f"http://127.0.0.1:{self.web.port}{path}",
                method=method,
                headers=dict(headers),
                raise_error=False,
                allow_nonstandard_methods=True,
            )
        finally:
            client.close()

    def close(self) -> None:
        """Everybody leaves."""
        for stream in self._streams:
            stream.leave()

    @property
    def waiting(self) -> int:
        """How many wait for jobs."""
        return len(self.jobs._waiters)


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    async with site(mount=lambda crew: routes(crew, JobStore(url_of(folder)))) as web:
        await web.crew.jobs.ready()
        desk = Desk(web)
        try:
            yield desk
        finally:
            desk.close()

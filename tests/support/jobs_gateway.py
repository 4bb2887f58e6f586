"""A gateway with a real job store and no broker; the test reports the progress of jobs as workers do."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.routing import URLSpec

from crew.client import Client
from crew.gateway import routes
from crew.gateway.jobs.job_events import JobEventsHandler
from crew.jobs import Job, JobService, JobStatus, JobStore
from crew.jobs.reports.report import Report
from crew.jobs.tuning import DEFAULT, JobTuning
from crew.protocol.message import Run
from tests.support.a_job import a_specification, url_of
from tests.support.event_stream import AS_STREAM, Stream
from tests.support.site import Site, site


class JobsGateway:
    """A gateway with a job store: adds jobs, reports as a worker, and makes HTTP requests."""

    def __init__(self, web: Site) -> None:
        self.site = web
        self.jobs: JobService = web.crew.jobs
        self._streams: list[Stream] = []

    async def add_job(self, **fields: Any) -> Job:
        """Record a job; queued by default."""
        inserted = await self.jobs.store.insert(a_specification(created=time.time(), **fields))
        return inserted.job

    async def report(self, job: Job, status: JobStatus | None, *, attempt: int = 1, **fields: Any) -> None:
        """Report a status of the job, as its worker does."""
        run = Run(host="host:7", started=time.time(), attempt=attempt)
        await self.jobs._apply([Report(id=job.id, status=status, at=time.time(), run=run, **fields)])

    async def report_progress(self, job: Job, value: Any) -> None:
        """Report progress, as the task does."""
        await self.report(job, None, progress=msgspec.json.encode(value))

    async def open_stream(self, job: Job, query: str = "", headers: Mapping[str, str] = AS_STREAM) -> Stream:
        """Request the stream of a job's events."""
        stream = await Stream.started(self.site.port, f"/jobs/{job.id}/events{query}", headers)
        self._streams.append(stream)
        return stream

    async def started_stream(self, job: Job, query: str = "", headers: Mapping[str, str] = AS_STREAM) -> Stream:
        """Request the stream, and wait for its start."""
        stream = await self.open_stream(job, query, headers)
        assert (await stream.head())[0] == 200
        return stream

    async def get_events(self, job: Job | str, query: str = "", headers: Mapping[str, str] = {}) -> HTTPResponse:
        """Request the events of a job, and wait for the whole response."""
        return await self.request("GET", f"/jobs/{job if isinstance(job, str) else job.id}/events{query}", headers)

    async def request(self, method: str, path: str, headers: Mapping[str, str] = {}) -> HTTPResponse:
        """Make a request, and wait for the whole response."""
        client = AsyncHTTPClient(force_instance=True)
        try:
            return await client.fetch(
                f"http://127.0.0.1:{self.site.port}{path}",
                method=method,
                headers=dict(headers),
                raise_error=False,
                allow_nonstandard_methods=True,
            )
        finally:
            client.close()

    def close(self) -> None:
        """Close the streams."""
        for stream in self._streams:
            stream.disconnect()

    @property
    def waiters(self) -> int:
        """The number of requests that wait for a job."""
        return len(self.jobs._waiters)


@asynccontextmanager
async def jobs_gateway(folder: Path, *, tuning: JobTuning = DEFAULT, **events: float) -> AsyncIterator[JobsGateway]:
    """A gateway whose job store is in `folder`; `events` are intervals of JobEventsHandler."""

    def mount(client: Client) -> list[URLSpec]:
        mounted = routes(client, JobStore(url_of(folder), tuning=tuning))
        for route in mounted:
            if route.target is JobEventsHandler:
                route.target_kwargs = {**route.target_kwargs, **events}
        return mounted

    async with site(mount=mount) as web:
        await web.crew.jobs.ready()
        gateway = JobsGateway(web)
        try:
            yield gateway
        finally:
            gateway.close()

"""The two ways to submit jobs: `client.submit` in this process, and HTTP to a `crew gateway` process."""

import abc
import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, Self

from keep_alive import KeepAlive, Response
from process import Process

from crew import Client, UnknownTask
from crew.jobs import JobQuery, JobStatus, JobStore

READY_TIMEOUT: Final = 20.0  # seconds until a gateway or a worker must be ready
POLL: Final = 0.1  # seconds
ACTIVE: Final = (JobStatus.QUEUED, JobStatus.STARTED)
FAILED: Final = tuple(status for status in JobStatus if status.is_final and status is not JobStatus.SUCCESS)


class Way(abc.ABC):
    """A way to submit jobs and wait for them; connected during its `async with`."""

    @abc.abstractmethod
    async def __aenter__(self) -> Self:
        """Connect."""

    @abc.abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    @abc.abstractmethod
    async def submit(self, task: str, data: Any = None) -> str:
        """Submit a job; returns its id."""

    @abc.abstractmethod
    async def response(self, id: str) -> Any:
        """Wait for the result of a job."""

    @abc.abstractmethod
    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether a job has one of these statuses."""

    @abc.abstractmethod
    def cpu(self) -> float:
        """CPU seconds that the gateway has used."""


class InProcess(Way):
    """`client.submit`, and `handle.result()`."""

    def __init__(self, url: str, database: str) -> None:
        self._url, self._database = url, database

    async def __aenter__(self) -> Self:
        """Connect."""
        self._client = Client(self._url, store=JobStore(self._database))
        await self._client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._client.close()

    async def until_served(self, task: str) -> None:
        """Poll until the worker, another process, serves the task."""
        async with asyncio.timeout(READY_TIMEOUT):
            while True:
                try:
                    await self._client.call(task, expiration=READY_TIMEOUT)
                except UnknownTask:
                    await asyncio.sleep(POLL)
                else:
                    return

    async def submit(self, task: str, data: Any = None) -> str:
        """Submit a job; returns its id."""
        return (await self._client.submit(task, data)).id

    async def response(self, id: str) -> Any:
        """Wait for the result of a job."""
        return await self._client.jobs.result(id)

    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether a job has one of these statuses."""
        return bool((await self._client.jobs.page(JobQuery(statuses=tuple(statuses), limit=1))).jobs)

    def cpu(self) -> float:
        """CPU seconds that this process has used."""
        return time.process_time()


class OverHttp(Way):
    """`POST /jobs/`, and `GET /jobs/<uuid>/response/`."""

    def __init__(self, url: str, database: str) -> None:
        self._url, self._database = url, database

    async def __aenter__(self) -> Self:
        """Start the gateway."""
        self._process = Process("-m", "crew", "gateway", "--port", "0", "--database", self._database, url=self._url)
        self._http = KeepAlive(await asyncio.to_thread(self._process.line))
        async with asyncio.timeout(READY_TIMEOUT):
            while (await self._http.request("GET", "/readyz")).status != 200:
                await asyncio.sleep(POLL)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the gateway."""
        await self._http.close()
        await asyncio.to_thread(self._process.stop)

    async def submit(self, task: str, data: Any = None) -> str:
        """Submit a job; returns its id."""
        response = await self._http.request("POST", "/jobs/", {"task": task, "data": data})
        return str(_expected(response, 303).json["id"])

    async def response(self, id: str) -> Any:
        """Wait for the result of a job."""
        return _expected(await self._http.request("GET", f"/jobs/{id}/response/"), 200).json

    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether a job has one of these statuses."""
        response = await self._http.request("GET", f"/jobs/?limit=1&status={','.join(statuses)}")
        return bool(_expected(response, 200).json["jobs"])

    def cpu(self) -> float:
        """CPU seconds that the gateway process has used."""
        return self._process.cpu()


def _expected(response: Response, status: int) -> Response:
    if response.status != status:
        raise RuntimeError(f"the gateway responded with {response.status}: {response.body[:500]!r}")
    return response

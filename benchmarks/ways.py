"""The two ways to the same jobs: `client.submit` in this process, and HTTP to a `crew gateway` in one of its own."""

import abc
import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, Self

from keep_alive import Answer, KeepAlive
from process import Process

from crew import Client, UnknownTask
from crew.jobs import JobQuery, JobStatus, JobStore

READY_WITHIN: Final = 20.0  # seconds, for a gateway or a worker to come up
LOOK_EVERY: Final = 0.1  # seconds
ACTIVE: Final = (JobStatus.QUEUED, JobStatus.STARTED)
UNLUCKY: Final = tuple(status for status in JobStatus if status.is_final and status is not JobStatus.SUCCESS)


class Way(abc.ABC):
    """Submits jobs and waits for them, from its `async with` to the end of that."""

    @abc.abstractmethod
    async def __aenter__(self) -> Self:
        """Connect."""

    @abc.abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    @abc.abstractmethod
    async def submit(self, task: str, data: Any = None) -> str:
        """The id of a new job."""

    @abc.abstractmethod
    async def response(self, id: str) -> Any:
        """Wait for what the job comes to."""

    @abc.abstractmethod
    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether there is a job in one of these."""

    @abc.abstractmethod
    def cpu(self) -> float:
        """Seconds of CPU that the gateway has used."""


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
        """Wait for the worker: another process, of which nothing here is told."""
        async with asyncio.timeout(READY_WITHIN):
            while True:
                try:
                    await self._client.call(task, expiration=READY_WITHIN)
                except UnknownTask:
                    await asyncio.sleep(LOOK_EVERY)
                else:
                    return

    async def submit(self, task: str, data: Any = None) -> str:
        """The id of a new job."""
        return (await self._client.submit(task, data)).id

    async def response(self, id: str) -> Any:
        """Wait for what the job comes to."""
        return await self._client.jobs.result(id)

    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether there is a job in one of these."""
        return bool((await self._client.jobs.page(JobQuery(statuses=tuple(statuses), limit=1))).jobs)

    def cpu(self) -> float:
        """Seconds of CPU that this process has used."""
        return time.process_time()


class OverHttp(Way):
    """`POST /jobs/`, and `GET /jobs/<uuid>/response/`."""

    def __init__(self, url: str, database: str) -> None:
        self._url, self._database = url, database

    async def __aenter__(self) -> Self:
        """Start the gateway."""
        self._process = Process("-m", "crew", "gateway", "--port", "0", "--database", self._database, url=self._url)
        self._http = KeepAlive(await asyncio.to_thread(self._process.line))
        async with asyncio.timeout(READY_WITHIN):
            while (await self._http.ask("GET", "/readyz")).status != 200:
                await asyncio.sleep(LOOK_EVERY)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the gateway."""
        await self._http.close()
        await asyncio.to_thread(self._process.stop)

    async def submit(self, task: str, data: Any = None) -> str:
        """The id of a new job."""
        answer = await self._http.ask("POST", "/jobs/", {"task": task, "data": data})
        return str(_expected(answer, 303).json["id"])

    async def response(self, id: str) -> Any:
        """Wait for what the job comes to."""
        return _expected(await self._http.ask("GET", f"/jobs/{id}/response/"), 200).json

    async def has_any(self, statuses: Sequence[JobStatus]) -> bool:
        """Whether there is a job in one of these."""
        answer = await self._http.ask("GET", f"/jobs/?limit=1&status={','.join(statuses)}")
        return bool(_expected(answer, 200).json["jobs"])

    def cpu(self) -> float:
        """Seconds of CPU that the gateway process has used."""
        return self._process.cpu()


def _expected(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise RuntimeError(f"the gateway answered {answer.status}: {answer.body[:500]!r}")
    return answer

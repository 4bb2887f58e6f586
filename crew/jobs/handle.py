"""What `Client.submit` returns: one job, asked for by its id."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from crew.errors import ConnectionError
from crew.jobs.event import is_changed
from crew.jobs.job import Job, JobStatus


class Jobs(Protocol):
    """What a handle needs of the `JobService` that has made it."""

    is_closed: bool

    async def get(self, id: str, *, with_bodies: bool = True) -> Job:
        """The record of a job."""

    async def wait_for_change(self, id: str, version: int | None, *, with_result: bool = True) -> Job:
        """The record of a job when it has ended, or has a newer version."""

    async def result(self, id: str, timeout: float | str | None = None) -> Any:
        """The value of a job that has ended; raises what it failed with."""

    async def cancel(self, id: str) -> bool:
        """Cancel a job; False where it had ended."""


class JobHandle:
    """A job that was submitted.

    Args:
        is_new: False where it is another one, which was submitted before with the same key.

    What its methods raise:
        UnknownJob: its record was deleted, when its time to live was over.
        ConnectionError: the job store is away.
    """

    def __init__(self, service: Jobs, id: str, *, is_new: bool = True) -> None:
        self._service = service
        self.id = id
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    async def job(self) -> Job:
        """All of its record."""
        return await self._service.get(self.id)

    async def status(self) -> JobStatus:
        """Where it is."""
        return (await self._service.get(self.id, with_bodies=False)).status

    async def result(self, wait: float | str | None = None) -> Any:
        """The value of its task, once it has ended.

        Args:
            wait: seconds, or text like "15m", to wait for that; 0: not at all; default: as long as it takes.

        Raises:
            ValueError: `wait` is no such duration.
            TimeoutError: it has not ended in time, and goes on; or it has ended, as it ran longer than it may.
            TaskFailed, ExpirationError, Canceled, WorkerLost, TaskError: it has no value.
            SerializationError: its value cannot be read.
        """
        return await self._service.result(self.id, wait)

    async def events(self) -> AsyncIterator[Job]:
        """Its record as it is, then whenever its status, progress or attempts have changed, until it has ended.

        The records come without payload and value. What follows closely on another change may come with it.
        """
        told: Job | None = None
        version = 0
        while told is None or not told.status.is_final:
            job = await self._service.wait_for_change(self.id, version, with_result=False)
            if self._service.is_closed and not job.status.is_final:
                raise ConnectionError("the client was closed", missing="client")
            if is_changed(job, told):
                yield job
                told = job
            version = job.version

    async def cancel(self) -> bool:
        """Give it up: it is not started, or it is stopped. False where it had ended."""
        return await self._service.cancel(self.id)

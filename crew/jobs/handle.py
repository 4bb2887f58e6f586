"""Handle of one job, which `Client.submit` returns."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from crew.duration import Duration
from crew.errors import ConnectionError, TaskError
from crew.jobs.job import Job, JobStatus
from crew.jobs.records.event import is_changed
from crew.jobs.result import error_of
from crew.protocol.arguments import UNSET, renamed


class Jobs(Protocol):
    """The part of `JobService` that a handle uses."""

    is_closed: bool

    async def get(self, id: str, *, with_bodies: bool = True) -> Job:
        """The record of a job."""

    async def wait_for_change(self, id: str, version: int | None, *, with_result: bool = True) -> Job:
        """The record of a job when it has ended, or has a newer version."""

    async def result(self, id: str, timeout: Duration | None = None) -> Any:
        """The value of a job that has ended; raises what it failed with."""

    async def cancel(self, id: str) -> bool:
        """Cancel a job; False if it had ended."""


class JobHandle:
    """A job that was submitted: what `Client.submit` and `Client.job` return.

    Attributes:
        id: UUID of the job.
        is_new: whether a submit through this handle made the job; False if it was there before.
        read: reads its value back by the annotation of its task; None: the value is as it has arrived.

    What its methods raise:
        UnknownJob: the record was deleted, because its time to live was over.
        ConnectionError: the job store is unavailable.
    """

    def __init__(self, service: Jobs, id: str, *, is_new: bool = True) -> None:
        self._service = service
        self.id = id
        self.is_new = is_new
        self.read: Callable[[Any], Any] | None = None

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    async def job(self) -> Job:
        """The whole record of the job."""
        return await self._service.get(self.id)

    async def status(self) -> JobStatus:
        """The status of the job."""
        return (await self._service.get(self.id, with_bodies=False)).status

    async def progress(self) -> Any:
        """The latest value that its task has passed to `context.progress`; None if there is none."""
        return (await self._service.get(self.id, with_bodies=False)).decoded_progress

    async def error(self) -> TaskError | None:
        """What `result` raises because the job has no value; None if it has not ended, or has a value."""
        job = await self._service.get(self.id, with_bodies=False)
        if not job.status.is_final or job.status is JobStatus.SUCCESS:
            return None
        if job.is_http and (await self._service.get(self.id)).result is not None:
            return None  # a response with a status code of 400 or more is a value, too
        return error_of(job)

    async def result(self, timeout: Duration | None = None, *, wait: Any = UNSET) -> Any:
        """Wait until the job has ended, and return the value of its task.

        Args:
            timeout: how long to wait: seconds, or text like "15m"; 0: do not wait. Default: no limit.
            wait: deprecated name of `timeout`.

        Raises:
            ValueError: `timeout` is not a duration.
            TimeoutError: the wait is over and the job goes on; or the job ended because it ran too long.
            TaskFailed, InvalidArguments, ExpirationError, Canceled, WorkerLost, TaskError: the job has no value.
            SerializationError: its value cannot be read.
        """
        if wait is not UNSET:
            timeout = renamed("JobHandle.result", "wait", "timeout", wait)
        value = await self._service.result(self.id, timeout)
        return value if self.read is None else self.read(value)

    async def events(self) -> AsyncIterator[Job]:
        """Yield the record as it is, then after each change of status, progress or attempts, until the job has ended.

        The records have no payload and no value. Changes that follow closely on each other may come as one.
        """
        known: Job | None = None
        version = 0
        while known is None or not known.status.is_final:
            job = await self._service.wait_for_change(self.id, version, with_result=False)
            if self._service.is_closed and not job.status.is_final:
                raise ConnectionError("the client was closed", missing="client")
            if is_changed(job, known):
                yield job
                known = job
            version = job.version

    async def cancel(self) -> bool:
        """Cancel the job: it is not started, or it is interrupted. False if it had ended."""
        return await self._service.cancel(self.id)

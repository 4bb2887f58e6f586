"""The events of a job: its status, its progress, and finally its error or the path of its result. No I/O here."""

from typing import Any

import msgspec

from crew.jobs.job import Job, JobStatus
from crew.jobs.records.record import error


class JobError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The failure of a job: type and message of the exception, and whether a retry may help.

    Attributes:
        traceback: of the task, in a record for a client that may see it; never in an event.
    """

    type: str
    message: str
    retryable: bool
    traceback: str | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a job at one moment.

    Attributes:
        status: see JobStatus.
        version: of its record; grows with every change.
        attempts: how often it was started.
        progress: the latest progress of its task; left out if there is none.
        error: the failure of a job that has ended without a value.
        response: path of the result of a job that has ended.
    """

    status: JobStatus
    version: int
    attempts: int
    progress: Any = None
    error: JobError | None = None
    response: str | None = None


def event_of(job: Job, response: str) -> JobEvent:
    """The event for `job` as it is; `response` is the path of its result, used once the job has ended."""
    return JobEvent(
        status=job.status,
        version=job.version,
        attempts=job.attempts,
        progress=job.decoded_progress,
        error=None if job.failure is None else JobError(**error(job)),
        response=response if job.status.is_final else None,
    )


def is_changed(job: Job, before: Job | None) -> bool:
    """Whether status, progress or attempts differ. A version may change without: the worker still runs the job."""
    return before is None or _visible(job) != _visible(before)


def _visible(job: Job) -> tuple[object, ...]:
    return job.status, job.progress, job.attempts

"""What is told of a job while it goes on: where it is, how far, and at last what ended it. Nothing here does I/O."""

from typing import Any

import msgspec

from crew.jobs.job import Job, JobStatus
from crew.jobs.record import error, progress


class JobError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job has no value: the type of what was raised, what it says, and whether another run may help.

    Attributes:
        traceback: of the task, in a record that a client may see it in; never in an event.
    """

    type: str
    message: str
    retryable: bool
    traceback: str | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job at one moment.

    Attributes:
        status: where it is in its life.
        version: of its record; grows with every change.
        attempts: how often it was started.
        progress: what its task said last; left out where it has said nothing.
        error: of a job that has ended without a value.
        response: where its value is found, of a job that has ended.
    """

    status: JobStatus
    version: int
    attempts: int
    progress: Any = None
    error: JobError | None = None
    response: str | None = None


def event_of(job: Job, response: str) -> JobEvent:
    """`job` as it is; `response` is where its value is found once it has ended."""
    return JobEvent(
        status=job.status,
        version=job.version,
        attempts=job.attempts,
        progress=progress(job),
        error=None if job.failure is None else JobError(**error(job)),
        response=response if job.status.is_final else None,
    )


def has_news(job: Job, before: Job | None) -> bool:
    """Whether `job` tells more than `before` did: a worker that is still at it is a version, and no news."""
    return before is None or _told(job) != _told(before)


def _told(job: Job) -> tuple[object, ...]:
    return job.status, job.progress, job.attempts

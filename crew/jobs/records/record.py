"""The record of a job as JSON, the same for HTTP and for the command line."""

from typing import Any

from crew.jobs.job import Job
from crew.jobs.records import url_job
from crew.jobs.records.json_values import milliseconds
from crew.jobs.records.json_values import moment as moment
from crew.jobs.records.json_values import value as value
from crew.protocol import failure


def record(job: Job, *, shows_query: bool = False, shows_traceback: bool = False) -> dict[str, Any]:
    """All fields of `job`, without the payload and the result of a task. Instants: ISO 8601 in UTC; durations: seconds.

    `time` is when it was submitted, in milliseconds since 1970. A URL job also has its request: `url`, `method`,
    `headers`, `data` and the request's `timeout`. The first four are None if the job was read without its payload.

    Args:
        shows_query: whether `url` has its query, which may hold a secret; user and password are never shown.
        shows_traceback: whether `error` has the traceback of the task.
    """
    fields = {
        "id": job.id,
        "uuid": job.id,
        "kind": "http" if job.is_http else "task",
        "task": job.task,
        "status": job.status.value,
        "time": milliseconds(job.created),
        "priority": job.priority,
        "timeout": job.timeout,
        "result_ttl": job.result_ttl,
        "failure_ttl": job.failure_ttl,
        "unique_key": job.unique_key,
        "start_by": moment(job.start_by),
        "created": moment(job.created),
        "enqueued": moment(job.enqueued),
        "started": moment(job.started),
        "ended": moment(job.ended),
        "elapsed": None if job.elapsed is None else round(job.elapsed, 3),
        "attempts": job.attempts,
        "worker": job.host,
        "progress": job.decoded_progress,
        "error": None if job.failure is None else error(job, shows_traceback=shows_traceback),
        "origin": job.origin,
        "version": job.version,
    }
    return {**fields, **url_job.request(job, shows_query=shows_query)} if job.is_http else fields


def full_record(job: Job) -> dict[str, Any]:
    """As `record`, with payload and traceback; the secrets of a URL job stay hidden."""
    fields = record(job, shows_traceback=True)
    return fields if job.is_http else {**fields, "data": None if job.body is None else value(job.body)}


def error(job: Job, *, shows_traceback: bool = False) -> dict[str, Any]:
    """Why there is no value: type, message, whether a retry may help; and the traceback, if wanted and known."""
    decoded = failure.decode(job.failure or b"{}")
    fields = {"type": decoded.type_name, "message": decoded.message, "retryable": decoded.retryable}
    return {**fields, "traceback": decoded.traceback} if shows_traceback and decoded.traceback else fields

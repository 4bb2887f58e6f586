"""A job as its readers see it: the fields of its record in JSON, the same for HTTP and for the command line."""

import base64
import datetime
from typing import Any

import msgspec

from crew.errors import CrewError
from crew.jobs.job import Job
from crew.protocol import codec, failure
from crew.protocol.http_url import redacted
from crew.protocol.message import Body


def record(job: Job) -> dict[str, Any]:
    """All of `job` but its payload and what came of it. Instants are ISO 8601 in UTC, durations seconds."""
    return {
        "id": job.id,
        "kind": "http" if job.is_http else "task",
        "task": job.task,
        "status": job.status.value,
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
        "progress": progress(job),
        "error": None if job.failure is None else error(job),
        "origin": job.origin,
        "version": job.version,
    }


def full_record(job: Job) -> dict[str, Any]:
    """As `record`, with the payload, but for the secrets of a URL job."""
    data = None if job.body is None else value(job.body)
    return {**record(job), "data": _without_secrets(data) if job.is_http and isinstance(data, dict) else data}


def progress(job: Job) -> Any:
    """What its task said last; None where it said nothing, or nothing that is JSON."""
    try:
        return None if job.progress is None else msgspec.json.decode(job.progress)
    except msgspec.MsgspecError:
        return None


def error(job: Job) -> dict[str, Any]:
    """Why there is no value: type, message, whether another run may help."""
    told = failure.decode(job.failure or b"{}")
    return {"type": told.type_name, "message": told.message, "retryable": told.retryable}


def value(body: Body) -> Any:
    """What is in `body`, as JSON has words for it: bytes as {"base64": ...}."""
    try:
        decoded = codec.decode(body)
        return _in_base64(decoded) if isinstance(decoded, bytes) else msgspec.to_builtins(decoded)
    except (CrewError, TypeError):
        return _in_base64(body.data)


def _in_base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def _without_secrets(request: dict[str, Any]) -> dict[str, Any]:
    """A request as anybody may see it who may see jobs: no password in its URL, and only the names of its headers."""
    headers = dict.fromkeys(request.get("headers") or {}, "...")
    return {**request, "url": redacted(str(request.get("url"))), "headers": headers}


def moment(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, to the millisecond; None where no calendar has it.

    A foreign worker may have told of its run in microseconds: that is no reason not to show a page of jobs.
    """
    if at is None:
        return None
    try:
        told = datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return told.isoformat(timespec="milliseconds").replace("+00:00", "Z")

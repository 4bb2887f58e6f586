"""Jobs as rows, and back."""

from typing import Any, Final

import msgspec
from sqlalchemy import RowMapping

from crew.jobs.job import Job, JobStatus
from crew.jobs.schema import jobs
from crew.protocol.message import Body

_JSON: Final = ("headers", "result_headers")
_BODIES: Final = ("body", "result")
_LARGE: Final = ("body", "body_type", "body_encoding", "result", "result_type", "result_encoding")

COLUMNS: Final = tuple(jobs.c)
WITHOUT_BODIES: Final = tuple(column for column in jobs.c if column.name not in _LARGE)
WITHOUT_PAYLOAD: Final = tuple(column for column in jobs.c if column.name not in ("body", "body_type", "body_encoding"))
# What a report changes; the rest of a record is as it was submitted.
CHANGING: Final = (
    "status",
    "enqueued",
    "started",
    "ended",
    "seen",
    "attempts",
    "host",
    "publish_at",
    "is_given_up",
    "purge_at",
    "version",
    "result_headers",
    "progress",
    "progress_run",
    "progress_count",
    "failure",
    "result",
    "result_type",
    "result_encoding",
)


def of_job(job: Job) -> dict[str, Any]:
    """`job` as the values of a row."""
    row = msgspec.structs.asdict(job)
    row["status"] = job.status.value
    for name in _JSON:
        row[name] = msgspec.json.encode(row[name]).decode() if row[name] else "{}"
    for name in _BODIES:
        body: Body | None = row[name]
        row[name] = None if body is None else body.data
        row[f"{name}_type"] = None if body is None else body.content_type
        row[f"{name}_encoding"] = None if body is None else body.content_encoding
    return row


def to_job(row: RowMapping) -> Job:
    """The job in `row`, of whatever columns it has."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for name in _JSON:
        text = values[name]
        values[name] = {} if text == "{}" else msgspec.json.decode(text)
    for name in _BODIES:
        content_type, encoding = values.pop(f"{name}_type", None), values.pop(f"{name}_encoding", None)
        data = values.get(name)
        values[name] = None if data is None else Body(bytes(data), content_type, encoding)
    values["status"] = JobStatus(values["status"])
    return Job(**values)

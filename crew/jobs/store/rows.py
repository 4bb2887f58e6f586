"""Converts jobs to database rows, and rows to jobs."""

import logging
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, RowMapping, case, func

from crew.errors import SerializationError
from crew.jobs.job import Job, JobStatus
from crew.jobs.store.schema import jobs
from crew.protocol.encoding import foreign
from crew.protocol.message import Body, Headers
from crew.protocol.topology import HTTP_TASK

logger = logging.getLogger(__name__)

MAX_HEADERS: Final = 1024 * 1024  # bytes of JSON; the headers of a message have at most 64 KiB
_HEADERS: Final = msgspec.json.Decoder(dict[str, Any])
_JSON: Final = ("headers", "result_headers")
_BODIES: Final = ("body", "result")
_LARGE: Final = ("body", "body_type", "body_encoding", "result", "result_type", "result_encoding")

COLUMNS: Final = tuple(jobs.c)
WITHOUT_BODIES: Final = tuple(column for column in jobs.c if column.name not in _LARGE)
WITHOUT_PAYLOAD: Final = tuple(column for column in jobs.c if column.name not in ("body", "body_type", "body_encoding"))
MAX_REQUEST_IN_LIST: Final = 32 * 1024  # bytes of a payload that a list shows; a page has up to 500 jobs


def _of_url_job(column: Column[Any], longest: int | None = None) -> ColumnElement[Any]:
    """The column if the row is a URL job with a payload of at most `longest` bytes; else NULL."""
    is_shown: ColumnElement[bool] = jobs.c.task == HTTP_TASK
    if longest is not None:  # a compressed payload is longer than its column
        is_shown &= jobs.c.body_encoding.is_(None) & (func.length(jobs.c.body) <= longest)
    return case((is_shown, column)).label(column.name)


# A record shows the request of a URL job, which is its payload. It does not show the payload of a task.
_REQUEST: Final = (jobs.c.body, jobs.c.body_type, jobs.c.body_encoding)
WITH_REQUEST: Final = (*WITHOUT_BODIES, *map(_of_url_job, _REQUEST))
IN_LIST: Final = (*WITHOUT_BODIES, *(_of_url_job(column, MAX_REQUEST_IN_LIST) for column in _REQUEST))
# The columns that a report may change. The others stay as they were submitted.
CHANGING: Final = (
    "status",
    "enqueued",
    "started",
    "ended",
    "seen",
    "attempts",
    "host",
    "publish_at",
    "submit_until",
    "is_given_up",
    "purge_at",
    "version",
    "result_headers",
    "progress",
    "progress_run",
    "progress_count",
    "failure",
)
RESULT: Final = ("result", "result_type", "result_encoding")  # only the report that ends the job sets these


def of_job(job: Job) -> dict[str, Any]:
    """Convert `job` to the values of a row."""
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


def _headers(text: str) -> Headers:
    """Decode the headers of a row; empty if they cannot be read, so that one bad row does not fail a whole list."""
    try:
        return foreign.read(_HEADERS.decode, text.encode(errors="replace"), "the headers of a job", most=MAX_HEADERS)
    except SerializationError as error:
        logger.warning("job headers unreadable: discarding them: %s", error)
        return {}


def to_job(row: RowMapping) -> Job:
    """Convert `row` to a job. The row may lack columns."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for name in _JSON:
        text = values[name]
        values[name] = {} if text == "{}" else _headers(text)
    for name in _BODIES:
        content_type, encoding = values.pop(f"{name}_type", None), values.pop(f"{name}_encoding", None)
        data = values.get(name)
        values[name] = None if data is None else Body(bytes(data), content_type, encoding)
    values["status"] = JobStatus(values["status"])
    return Job(**values)

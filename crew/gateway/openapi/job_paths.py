"""OpenAPI description of the paths below `/jobs/`."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from crew.duration import EXAMPLES, MAX_DURATION
from crew.gateway.calls.reply_headers import JOB_STATUS
from crew.gateway.jobs.job_events import LONG_POLL, STREAM
from crew.gateway.jobs.job_request import TASK_RENAMES, URL_RENAMES
from crew.gateway.jobs.jobs_api import ANY
from crew.gateway.openapi.schema_words import (
    DURATION_TEXT,
    PREFER,
    TASK,
    VALUE,
    JsonObject,
    json,
    operation,
    parameter,
    ref,
    response,
    with_head,
)
from crew.jobs import JobStatus
from crew.jobs.records.event import JobEvent
from crew.jobs.records.url_job import MASK
from crew.jobs.specification import FAILURE_TTL, MAX_KEY, RESULT_TTL, TIMEOUT, UNIQUE
from crew.jobs.store.query import PAGE
from crew.protocol.encoding import codec
from crew.protocol.http_job.request import DEFAULT_TIMEOUT, METHODS
from crew.protocol.properties import MAX_PRIORITY

TAG: Final = "jobs"

DURATION: Final[JsonObject] = {
    "description": f"Seconds, or text like {EXAMPLES}.",
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION},
        DURATION_TEXT,
    ],
}
_VERSION: Final[JsonObject] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_CURSOR: Final[JsonObject] = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
_KEY: Final[JsonObject] = {"type": "string", "minLength": 1, "maxLength": MAX_KEY}
_RECORD: Final[JsonObject] = {"oneOf": [ref("Job"), ref("HttpJob")]}
_UUID: Final = parameter("uuid", "path", {"type": "string", "format": "uuid"}, "Id of the job.")
_UNKNOWN_JOB: Final = {400: "The uuid is not valid.", 404: "There is no job with this uuid."}
_OUT_OF_RANGE: Final = "A member of the request is invalid or out of its range: the `type` of the problem names it."


def paths(root: str, max_page: int) -> dict[str, JsonObject]:
    """The paths, with operations by method.

    Args:
        root: start of every path, like "/jobs/".
        max_page: the maximum number of jobs on a page of a list.
    """
    job = root + "{uuid}/"
    return {
        root: with_head(_list(max_page), post=_submit()),
        f"{job}status/": with_head(_status()),
        f"{job}response/": with_head(_response(), delete=_delete_response()),
        f"{job}events": {"get": _events()},
        job: with_head(_record(), delete=_cancel()),  # last: a tool that tries all in order deletes here
    }


def schemas() -> dict[str, JsonObject]:
    """The schemas that the paths refer to."""
    _, events = msgspec.json.schema_components([JobEvent], ref_template="#/components/schemas/{name}")
    return {
        "Job": _job(),
        "HttpJob": _http_job(),
        "HttpResponse": _http_response(),
        "TaskJob": _task_job(),
        "UrlJob": _url_job(),
        **events,
    }


# --- operations -----------------------------------------------------------------------------------------------------


def _submit() -> JsonObject:
    submitted = {
        "type": "object",
        "required": ["id", "is_new"],
        "properties": {"id": {"type": "string", "format": "uuid"}, "is_new": {"type": "boolean"}},
    }
    where = {"Location": "Path of the job."}
    return operation(
        "submitJob",
        "Submits a job: a task, or an HTTP request to a URL.",
        {
            303: response("The job is accepted. Location has its path.", json(submitted), headers=where),
            202: response("The same, with `Prefer: respond-async`.", json(submitted), headers=where),
        },
        tag=TAG,
        parameters=[
            PREFER,
            parameter("Idempotency-Key", "header", _KEY, "A repeated request with the same key returns the same job."),
        ],
        body=json({"oneOf": [ref("TaskJob"), ref("UrlJob")]}),
        is_body_required=True,
        problems={
            400: "The body is missing or not JSON, or a header is invalid.",
            404: "No worker has ever served the task.",
            409: "Another job has this id.",
            413: "The body is too large.",
            415: "The Content-Type of the body is not JSON.",
            422: _OUT_OF_RANGE,
            429: "The token or the host has reached its limit of unfinished jobs. With Retry-After.",
        },
    )


def _list(max_page: int) -> JsonObject:
    page = {
        "type": "object",
        "required": ["jobs", "next"],
        "properties": {
            "jobs": {"type": "array", "items": _RECORD},
            "next": {"type": ["string", "null"], "description": "Path of the next page."},
        },
    }
    statuses = "|".join((ANY, *JobStatus))
    return operation(
        "listJobs",
        "Lists jobs, newest first.",
        {200: response("A page of jobs.", json(page), headers={"Link": "Paths: this page (`self`), `next`."})},
        tag=TAG,
        parameters=[
            parameter(
                "status",
                "query",
                {"type": "string", "pattern": f"^({statuses})$", "default": JobStatus.QUEUED.value},
                f"Only jobs with this status, or with one of several, separated by commas. `{ANY}`: all jobs.",
            ),
            parameter("task", "query", TASK, "Only jobs of this task."),
            parameter(
                "limit",
                "query",
                {"type": "integer", "minimum": 1, "maximum": max_page, "default": min(PAGE, max_page)},
                "The maximum number of jobs on the page.",
            ),
            parameter("cursor", "query", _CURSOR, "The end of the previous page: use the path in `next`."),
        ],
        problems={400: "A parameter is out of its range."},
    )


def _record() -> JsonObject:
    return operation(
        "getJob",
        "Returns the record of a job, without its value, and without the payload of a task.",
        {200: response("The record.", json(_RECORD), headers={"Link": "Paths: self, status, response and events."})},
        tag=TAG,
        parameters=[_UUID],
        problems=_UNKNOWN_JOB,
    )


def _cancel() -> JsonObject:
    return operation(
        "cancelJob",
        "Cancels a job, queued or running. If it has ended, deletes its value. Its record stays.",
        {204: response("The job is canceled; or it had ended, and its value is deleted.")},
        tag=TAG,
        parameters=[_UUID],
        problems=_UNKNOWN_JOB,
    )


def _status() -> JsonObject:
    schema = {"type": "object", "required": ["status"], "properties": {"status": ref("JobStatus")}}
    return operation(
        "getJobStatus",
        "Returns the status of a job.",
        {200: response("The status.", json(schema))},
        tag=TAG,
        parameters=[_UUID],
        problems=_UNKNOWN_JOB,
    )


def _response() -> JsonObject:
    headers = {JOB_STATUS: "Status of the job.", "Link": "Paths: this response (`self`) and the job (`request`)."}
    applied = {**headers, "Preference-Applied": "The applied preferences."}
    return operation(
        "getJobResponse",
        "Waits until a job ends, and responds with its value; of a URL job, an HttpResponse.",
        {
            200: response(
                "The value. `{}` if the job was canceled, a URL job has no response, or the value was deleted.",
                VALUE,
                headers=headers,
            ),
            202: response("The job has not ended within the wait of the header Prefer.", json({}), headers=applied),
        },
        tag=TAG,
        parameters=[_UUID, PREFER],
        problems={
            **_UNKNOWN_JOB,
            404: "There is no job with this uuid, or no worker has ever served its task.",
            500: "The task of the job raised an exception: see `exception`.",
            502: "The worker processes that ran the job died, or its result cannot be decoded.",
            503: "No worker started the job in time. With Retry-After: this gateway or the job store is unavailable.",
            504: "The task of the job exceeded its timeout.",
        },
    )


def _delete_response() -> JsonObject:
    return operation(
        "deleteJobResponse",
        "Deletes the value of a job. Its record stays.",
        {204: response("The value is deleted.")},
        tag=TAG,
        parameters=[_UUID],
        problems={**_UNKNOWN_JOB, 404: "There is no job with this uuid, or it has no value."},
    )


def _events() -> JsonObject:
    return operation(
        "getJobEvents",
        "Reports the changes of a job: server-sent events, or a long poll.",
        {
            200: response(
                "A stream of JobEvents, with their versions as ids; for a long poll, the newest JobEvent.",
                {STREAM: _event(), codec.JSON: ref("JobEvent")},
            ),
            204: response("The job has ended and the client has its last event: do not request it again."),
        },
        tag=TAG,
        parameters=[
            _UUID,
            parameter(
                "after",
                "query",
                {**_VERSION, "default": 0},
                "Only changes after this version. Makes it a long poll, unless `Accept` names the stream.",
            ),
            parameter(
                "wait",
                "query",
                DURATION_TEXT,
                f"The longest wait of a long poll (default {LONG_POLL:g} s), or duration of a stream. Makes it a "
                "long poll, unless `Accept` names the stream.",
            ),
            parameter("Last-Event-ID", "header", _VERSION, "As `after`, but takes precedence; browsers send it."),
        ],
        problems={**_UNKNOWN_JOB, 400: "The uuid is not valid, or a parameter is out of its range."},
    )


def _event() -> JsonObject:
    """One event of a stream. Its data is JSON, in a string."""
    data = {"type": "string", "contentMediaType": codec.JSON, "contentSchema": ref("JobEvent")}
    kind = {"enum": ["status", "progress"], "description": "The kind of change."}
    return {"type": "object", "properties": {"id": {"type": "string"}, "event": kind, "data": data}}


# --- schemas --------------------------------------------------------------------------------------------------------


def _job_options() -> dict[str, JsonObject]:
    return {
        "priority": {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0},
        "timeout": {
            **DURATION,
            "description": f"How long it may run. Default: {TIMEOUT:g} s; URL job: {DEFAULT_TIMEOUT:g} s.",
        },
        "expiration": {**DURATION, "description": "How long it may wait for its first start. Default: no limit."},
        "result_ttl": {**DURATION, "description": "How long it is kept after a success.", "default": RESULT_TTL},
        "failure_ttl": {**DURATION, "description": "How long it is kept after a failure.", "default": FAILURE_TTL},
        "unique": {
            "enum": list(UNIQUE),
            "description": "If an unfinished job has the same key: `skip` returns it, `replace` cancels it first.",
        },
        "unique_key": {**_KEY, "description": "The key of `unique`. Default: a hash of task and payload."},
        "key": {**_KEY, "deprecated": True, "description": "The old name of `unique_key`."},
        "id": {"type": "string", "format": "uuid", "description": "The id of the job. Default: a new one."},
    }


def _task_job() -> JsonObject:
    properties = {
        "task": TASK,
        "payload": {"description": "The argument of the task."},
        "data": {"deprecated": True, "description": "The old name of `payload`."},
        "headers": {
            "type": "object",
            "description": "Headers for the task.",
            "propertyNames": {"pattern": r"^(?!crew-|x-)[ -~]{1,128}$"},
            "additionalProperties": {"type": ["string", "integer", "boolean"]},
        },
        "wait_for_worker": {
            "type": "boolean",
            "default": False,
            "description": "Accept a task that has no queue yet.",
        },
        **_job_options(),
    }
    return _job_request(properties, TASK_RENAMES, required="task")


def _url_job() -> JsonObject:
    properties = {
        "url": {
            "type": "string",
            "format": "uri",
            "pattern": "^https?://",
            "description": "It must not lead to an internal address.",
        },
        "method": {
            "type": "string",
            "pattern": f"^({'|'.join(map(_in_any_case, METHODS))})$",
            "description": "In upper or lower case. Default: POST if there is data, else GET.",
        },
        "headers": {
            "type": "object",
            "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
            "additionalProperties": {"type": "string", "pattern": "^[\\t -~]*$"},
        },
        "data": {"description": "The body: a string as it is, anything else as JSON."},
        **_job_options(),
    }
    return _job_request(properties, URL_RENAMES, required="url")


def _in_any_case(word: str) -> str:
    """A pattern for the word in upper and lower case: patterns of JSON Schema have no flags."""
    return "".join(f"[{letter}{letter.lower()}]" for letter in word)


def _http_job() -> JsonObject:
    """The record of a URL job."""
    large = "null in a list if the payload is larger than 32 KiB."
    request: dict[str, JsonObject] = {
        "url": {"type": ["string", "null"], "description": f"Without user name and password; {large}"},
        "method": {"enum": [*METHODS, None]},
        "headers": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": f"Secret values are replaced by `{MASK}`.",
        },
        "data": {"description": "The body of the request."},
        "timeout": {"type": ["number", "null"], "description": "Timeout of the request in seconds."},
    }
    properties = {**_job()["properties"], "kind": {"const": "http"}, **request}
    return _closed_object(properties, required=list(properties))


def _http_response() -> JsonObject:
    """The response to a URL job that one of crew's own workers has run."""
    text = {"type": "string"}
    properties: dict[str, JsonObject] = {
        "uuid": {"type": "string", "format": "uuid"},
        "status": ref("JobStatus"),
        "time": {"type": "integer", "description": "When the job ended, in milliseconds since 1970."},
        "code": {"type": "integer"},
        "reason": text,
        "elapsed": {"type": "number", "description": "Milliseconds."},
        "headers": {"type": "object", "additionalProperties": text},
        "data": {**text, "description": "The body: text, or base64 where `encoding` says so."},
        "encoding": {"enum": ["text", "base64"]},
        "url": {**text, "description": "The final URL, after redirects."},
        "redirects": {"type": "integer"},
        "header_list": {"type": "array", "description": "Names and values in their original order and form."},
        "body": {**text, "description": "As `data`."},
        "elapsed_ms": {"type": "integer", "description": "As `elapsed`."},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _job() -> JsonObject:
    """The record of a job of a task."""
    moment = {"type": ["string", "null"], "format": "date-time"}
    seconds = {"type": ["number", "null"]}
    text = {"type": ["string", "null"]}
    properties: dict[str, JsonObject] = {
        "id": {"type": "string", "format": "uuid"},
        "uuid": {"type": "string", "format": "uuid", "description": "The same as `id`."},
        "kind": {"const": "task"},
        "task": {"type": "string"},
        "status": ref("JobStatus"),
        "time": {"type": "integer", "description": "When it was submitted, in milliseconds since 1970."},
        "priority": {"type": "integer"},
        **dict.fromkeys(("timeout", "result_ttl", "failure_ttl", "elapsed"), seconds),
        **dict.fromkeys(("start_by", "created", "enqueued", "started", "ended"), moment),
        **dict.fromkeys(("unique_key", "worker", "origin"), text),
        "attempts": {"type": "integer"},
        "progress": {"description": "The latest progress that the task reported."},
        "error": {"anyOf": [ref("JobError"), {"type": "null"}]},
        "version": {"type": "integer"},
    }
    return _closed_object(properties, required=list(properties))


def _closed_object(properties: dict[str, Any], *, required: list[str]) -> JsonObject:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _job_request(properties: dict[str, Any], renames: Mapping[str, str], *, required: str) -> JsonObject:
    return {
        **_closed_object(properties, required=[required]),
        "dependentRequired": {"unique_key": ["unique"], "key": ["unique"]},
        "allOf": [{"not": {"required": [old, new]}} for old, new in renames.items()],  # one of the names, not both
    }

"""The paths below `/jobs/` as `/openapi.json` describes them."""

from typing import Any, Final

import msgspec

from crew.gateway.calls.reply_headers import JOB_STATUS
from crew.gateway.jobs.job_events import LONG_POLL, STREAM
from crew.gateway.jobs.jobs_api import ANY
from crew.gateway.openapi.schema_words import (
    PREFER,
    TASK,
    VALUE,
    Words,
    answer,
    json,
    operation,
    parameter,
    readable,
    ref,
)
from crew.jobs import JobStatus
from crew.jobs.event import JobEvent
from crew.jobs.specification import FAILURE_TTL, MAX_KEY, RESULT_TTL, TIMEOUT, UNIQUE
from crew.jobs.store.query import PAGE
from crew.jobs.url_job import MASK
from crew.protocol import deadline
from crew.protocol.encoding import codec
from crew.protocol.http_job.request import DEFAULT_TIMEOUT, METHODS
from crew.protocol.properties import MAX_PRIORITY

TAG: Final = "jobs"

DURATION: Final[Words] = {
    "description": 'Seconds, or text like "90", "15m", "2h", "1d".',
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": deadline.MAX_DURATION},
        {"type": "string", "pattern": f"^{deadline.DURATION.pattern}$"},
    ],
}
_VERSION: Final[Words] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_CURSOR: Final[Words] = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
_KEY: Final[Words] = {"type": "string", "minLength": 1, "maxLength": MAX_KEY}
_RECORD: Final[Words] = {"oneOf": [ref("Job"), ref("HttpJob")]}
_UUID: Final = parameter("uuid", "path", {"type": "string", "format": "uuid"}, "Id of the job.")
_NO_SUCH: Final = {400: "The uuid is none.", 404: "There is no such job."}
_BAD: Final = "Something in the request is out of its range: the `type` of the problem says what."


def paths(root: str, max_page: int) -> dict[str, Words]:
    """All of them, with `root` in front, like "/jobs/"."""
    job = root + "{uuid}/"
    return {
        root: readable(_list(max_page), post=_submit()),
        f"{job}status/": readable(_status()),
        f"{job}response/": readable(_response(), delete=_delete_response()),
        f"{job}events": {"get": _events()},
        job: readable(_record(), delete=_cancel()),  # last: who tries them all in this order deletes responses here
    }


def schemas() -> dict[str, Words]:
    """What they refer to."""
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


def _submit() -> Words:
    submitted = {
        "type": "object",
        "required": ["id", "is_new"],
        "properties": {"id": {"type": "string", "format": "uuid"}, "is_new": {"type": "boolean"}},
    }
    where = {"Location": "Path of the job."}
    return operation(
        "submitJob",
        "Submits a job: a task, or a request of HTTP.",
        {
            303: answer("It is accepted, and found at Location.", json(submitted), headers=where),
            202: answer("So it is, for who prefers `respond-async`.", json(submitted), headers=where),
        },
        tag=TAG,
        parameters=[
            PREFER,
            parameter("Idempotency-Key", "header", _KEY, "Who sends the same with the same key gets the same job."),
        ],
        body=json({"oneOf": [ref("TaskJob"), ref("UrlJob")]}),
        is_body_required=True,
        problems={
            400: "There is no body, or it is no JSON; a header cannot be read.",
            404: "No worker has ever served the task.",
            409: "Another job has the id.",
            413: "The body is too large.",
            415: "The body has another type than JSON.",
            422: _BAD,
            429: "Its token or its host has as many unfinished jobs as the operator allows, with Retry-After.",
        },
    )


def _list(max_page: int) -> Words:
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
        "Lists jobs, the newest first.",
        {200: answer("A page of them.", json(page), headers={"Link": "This page, as `self`, and the `next` one."})},
        tag=TAG,
        parameters=[
            parameter(
                "status",
                "query",
                {"type": "string", "pattern": f"^({statuses})$", "default": JobStatus.QUEUED.value},
                f"Those with this status, or with one of several between commas; or `{ANY}`.",
            ),
            parameter("task", "query", TASK, "Those of this task."),
            parameter(
                "limit",
                "query",
                {"type": "integer", "minimum": 1, "maximum": max_page, "default": min(PAGE, max_page)},
                "How many.",
            ),
            parameter("cursor", "query", _CURSOR, "Where the page before has ended."),
        ],
        problems={400: "A parameter is out of its range."},
    )


def _record() -> Words:
    return operation(
        "getJob",
        "The record of a job, without its value, and without the payload of a task.",
        {200: answer("It.", json(_RECORD), headers={"Link": "Where self, status, response and events are found."})},
        tag=TAG,
        parameters=[_UUID],
        problems=_NO_SUCH,
    )


def _cancel() -> Words:
    return operation(
        "cancelJob",
        "Cancels a job, which is not started, or stopped; deletes the value of one that has ended. Its record stays.",
        {204: answer("It is cancelled; or it had ended, and its value is deleted.")},
        tag=TAG,
        parameters=[_UUID],
        problems=_NO_SUCH,
    )


def _status() -> Words:
    schema = {"type": "object", "required": ["status"], "properties": {"status": ref("JobStatus")}}
    return operation(
        "getJobStatus",
        "Where a job is in its life.",
        {200: answer("That.", json(schema))},
        tag=TAG,
        parameters=[_UUID],
        problems=_NO_SUCH,
    )


def _response() -> Words:
    told = {JOB_STATUS: "Status of the job.", "Link": "This response, as `self`, and the job, as `request`."}
    applied = {**told, "Preference-Applied": "What was heeded of Prefer."}
    return operation(
        "getJobResponse",
        "Waits for the end of a job, and answers with its value: of a URL job, with an HttpResponse.",
        {
            200: answer(
                "The value; `{}` of a job that was cancelled, of a URL without a response, and where it was deleted.",
                VALUE,
                headers=told,
            ),
            202: answer("The job goes on: the wait that was preferred is over.", json({}), headers=applied),
        },
        tag=TAG,
        parameters=[_UUID, PREFER],
        problems={
            **_NO_SUCH,
            404: "There is no such job; or the task of the job was never served.",
            500: "The task of the job has raised an exception, which `exception` tells.",
            502: "The workers of the job died, or its value cannot be read.",
            503: "No worker took the job in time; or a gateway that is away, with Retry-After.",
            504: "The task of the job ran longer than it may.",
        },
    )


def _delete_response() -> Words:
    return operation(
        "deleteJobResponse",
        "Deletes the value of a job. Its record stays.",
        {204: answer("It is deleted.")},
        tag=TAG,
        parameters=[_UUID],
        problems={**_NO_SUCH, 404: "There is no such job, or it has no value."},
    )


def _events() -> Words:
    return operation(
        "getJobEvents",
        "Tells what becomes of a job while it does: server-sent events, or a long poll.",
        {
            200: answer(
                "A stream of JobEvents whose ids are their versions; or, of a long poll, the newest one.",
                {STREAM: _event(), codec.JSON: ref("JobEvent")},
            ),
            204: answer("The job has ended, and who asks knows: the stream is not to be asked for again."),
        },
        tag=TAG,
        parameters=[
            _UUID,
            parameter(
                "after",
                "query",
                {**_VERSION, "default": 0},
                "Makes it a long poll, unless a stream is accepted: only what is newer than this version.",
            ),
            parameter(
                "wait",
                "query",
                {"type": "string", "pattern": f"^{deadline.DURATION.pattern}$"},
                f"The same: for so long at most, {LONG_POLL:g} s unless it is said otherwise. It bounds a stream, too.",
            ),
            parameter("Last-Event-ID", "header", _VERSION, "As `after`, and before it: what a browser heard last."),
        ],
        problems={**_NO_SUCH, 400: "The uuid is none, or a parameter is out of its range."},
    )


def _event() -> Words:
    """One of a stream: its data are JSON, in a string."""
    data = {"type": "string", "contentMediaType": codec.JSON, "contentSchema": ref("JobEvent")}
    kind = {"enum": ["status", "progress"], "description": "What has changed."}
    return {"type": "object", "properties": {"id": {"type": "string"}, "event": kind, "data": data}}


# --- schemas --------------------------------------------------------------------------------------------------------


def _terms() -> dict[str, Words]:
    return {
        "priority": {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0},
        "timeout": {**DURATION, "description": f"That it may run; {TIMEOUT:g} s, of a request {DEFAULT_TIMEOUT:g} s."},
        "expiration": {**DURATION, "description": "That it may wait for its first worker; as long as it takes."},
        "result_ttl": {**DURATION, "description": "That it is kept after a success.", "default": RESULT_TTL},
        "failure_ttl": {**DURATION, "description": "That it is kept after another end.", "default": FAILURE_TTL},
        "unique": {
            "enum": list(UNIQUE),
            "description": "What becomes of a job whose key an active one has: that one is meant, or it is cancelled.",
        },
        "key": {**_KEY, "description": "Of `unique`; a hash of task and data."},
        "id": {"type": "string", "format": "uuid", "description": "A new one, unless it is given."},
    }


def _task_job() -> Words:
    properties = {
        "task": TASK,
        "data": {"description": "Payload for the task."},
        "headers": {
            "type": "object",
            "description": "For the task.",
            "propertyNames": {"pattern": r"^(?!crew-|x-)[ -~]{1,128}$"},
            "additionalProperties": {"type": ["string", "integer", "boolean"]},
        },
        "wait_for_worker": {"type": "boolean", "default": False, "description": "Even for the first one ever."},
        **_terms(),
    }
    return _order(properties, required="task")


def _url_job() -> Words:
    properties = {
        "url": {
            "type": "string",
            "format": "uri",
            "pattern": "^https?://",
            "description": "None of an internal address.",
        },
        "method": {
            "type": "string",
            "pattern": f"^({'|'.join(map(_in_any_case, METHODS))})$",
            "description": "In any case of letters. POST where there is data, else GET.",
        },
        "headers": {
            "type": "object",
            "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
            "additionalProperties": {"type": "string", "pattern": "^[\\t -~]*$"},
        },
        "data": {"description": "Body: a string as it is, anything else as JSON."},
        **_terms(),
    }
    return _order(properties, required="url")


def _in_any_case(word: str) -> str:
    """A pattern: those of JSON schema have no flags."""
    return "".join(f"[{letter}{letter.lower()}]" for letter in word)


def _http_job() -> Words:
    """The record of a URL job."""
    large = "null in a list where the payload has more than 32 KiB."
    request: dict[str, Words] = {
        "url": {"type": ["string", "null"], "description": f"Without user and password; {large}"},
        "method": {"enum": [*METHODS, None]},
        "headers": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": f"With `{MASK}` in place of secret values.",
        },
        "data": {"description": "Body of the request."},
        "timeout": {"type": ["number", "null"], "description": "Seconds for the request."},
    }
    properties = {**_job()["properties"], "kind": {"const": "http"}, **request}
    return _exactly(properties, required=list(properties))


def _http_response() -> Words:
    """What a URL job was answered, where its worker is crew's."""
    text = {"type": "string"}
    properties: dict[str, Words] = {
        "uuid": {"type": "string", "format": "uuid"},
        "status": ref("JobStatus"),
        "time": {"type": "integer", "description": "When the job ended, in milliseconds since 1970."},
        "code": {"type": "integer"},
        "reason": text,
        "elapsed": {"type": "number", "description": "Milliseconds."},
        "headers": {"type": "object", "additionalProperties": text},
        "data": {**text, "description": "The body: text, or base64 where `encoding` says so."},
        "encoding": {"enum": ["text", "base64"]},
        "url": {**text, "description": "Where it came from in the end."},
        "redirects": {"type": "integer"},
        "header_list": {"type": "array", "description": "Names and values as they came."},
        "body": {**text, "description": "As `data`."},
        "elapsed_ms": {"type": "integer", "description": "As `elapsed`."},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _job() -> Words:
    """The record of a job of a task."""
    moment = {"type": ["string", "null"], "format": "date-time"}
    seconds = {"type": ["number", "null"]}
    text = {"type": ["string", "null"]}
    properties: dict[str, Words] = {
        "id": {"type": "string", "format": "uuid"},
        "uuid": {"type": "string", "format": "uuid", "description": "The same."},
        "kind": {"const": "task"},
        "task": {"type": "string"},
        "status": ref("JobStatus"),
        "time": {"type": "integer", "description": "When it was submitted, in milliseconds since 1970."},
        "priority": {"type": "integer"},
        **dict.fromkeys(("timeout", "result_ttl", "failure_ttl", "elapsed"), seconds),
        **dict.fromkeys(("start_by", "created", "enqueued", "started", "ended"), moment),
        **dict.fromkeys(("unique_key", "worker", "origin"), text),
        "attempts": {"type": "integer"},
        "progress": {"description": "What its task said last."},
        "error": {"anyOf": [ref("JobError"), {"type": "null"}]},
        "version": {"type": "integer"},
    }
    return _exactly(properties, required=list(properties))


def _exactly(properties: dict[str, Any], *, required: list[str]) -> Words:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _order(properties: dict[str, Any], *, required: str) -> Words:
    return {**_exactly(properties, required=[required]), "dependentRequired": {"key": ["unique"]}}

"""`GET /openapi.json`: the description of the whole HTTP API as an OpenAPI 3.1 document."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

import crew
from crew.duration import EXAMPLES
from crew.gateway.body import HeadMixin, NoBodyMixin
from crew.gateway.calls.call_api import SERIALIZERS
from crew.gateway.calls.value_response import ValueResponseMixin
from crew.gateway.openapi import task_paths
from crew.gateway.openapi.schema_words import (
    ANYTHING,
    DURATION_TEXT,
    PREFER,
    TASK,
    VALUE,
    JsonObject,
    json,
    operation,
    parameter,
    response,
    with_head,
)
from crew.gateway.problems import Problem, ProblemMixin
from crew.protocol.properties import MAX_PRIORITY
from crew.signatures.registered import RegisteredTask

VERSION: Final = "3.1.1"
SECURITY: Final = {"token": {"type": "http", "scheme": "bearer", "description": "If the gateway has a token."}}


class OpenApiHandler(NoBodyMixin, HeadMixin, ValueResponseMixin, ProblemMixin):
    """Responds with the document.

    Args:
        document: the document as JSON.
    """

    def initialize(self, *, document: bytes) -> None:
        """Set the arguments of the route."""
        self.document = document

    def get(self) -> None:
        """Respond with the document."""
        self.check_query()
        self.respond_encoded(self.document)


def document(
    prefix: str,
    *,
    max_expiration: float,
    has_jobs: bool,
    max_page: int,
    tasks: Mapping[str, RegisteredTask] = MappingProxyType({}),
) -> dict[str, Any]:
    """The OpenAPI document for the routes below `prefix`.

    Args:
        max_expiration: seconds; the maximum of a call's `expiration`.
        has_jobs: whether the routes of jobs exist.
        max_page: the maximum number of jobs on a page of a list.
        tasks: those that are described, by name.
    """
    call = _call(max_expiration, has_jobs=has_jobs)
    of_tasks, schemas_of_tasks = task_paths.paths_and_schemas(prefix, call, tasks)
    paths: dict[str, JsonObject] = {
        f"{prefix}/call/{{task}}": {"post": call},
        **of_tasks,
        f"{prefix}/healthz": _health_check("healthz", "200 while the process is alive.", "alive"),
        f"{prefix}/readyz": _health_check("readyz", "200 if a call can be sent at once and a job recorded.", "ready"),
        f"{prefix}/openapi.json": with_head(_openapi()),
    }
    _, schemas = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    schemas |= schemas_of_tasks
    if has_jobs:
        from crew.gateway.openapi import job_paths

        paths |= job_paths.paths(f"{prefix}/jobs/", max_page)
        schemas |= job_paths.schemas()
    return {
        "openapi": VERSION,
        "info": {"title": "crew", "version": crew.__version__, "description": "Calls tasks and runs jobs over HTTP."},
        "security": [{}, {name: [] for name in SECURITY}],
        "paths": paths,
        "components": {"schemas": _with_first_lines(schemas), "securitySchemes": SECURITY},
    }


def _call(max_expiration: float, *, has_jobs: bool) -> JsonObject:
    priority = {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0}
    parameters = [
        parameter("task", "path", TASK, "Name of the task."),
        parameter("priority", "query", priority, "Calls with a larger priority start first."),
        parameter(
            "expiration",
            "query",
            _duration(max_expiration),
            "How long the whole call may take.",
        ),
        parameter("timeout", "query", _duration(None), "How long the task may run."),
    ]
    responses = {200: response("The value of the task.", VALUE)}
    if has_jobs:
        parameters.append(PREFER)
        headers = {"Location": "Path of the job.", "Preference-Applied": "The applied preferences."}
        description = "By the header Prefer, the call goes on as a job. Location has its path."
        responses[202] = response(description, json(ANYTHING), headers=headers)
    return operation(
        "call",
        "Calls a task, waits, and responds with its value.",
        responses,
        tag="calls",
        parameters=parameters,
        body=dict.fromkeys(SERIALIZERS, ANYTHING),
        problems={
            400: "The body does not match its Content-Type, or a header is invalid.",
            404: "No worker has ever served the task.",
            413: "The body is too large.",
            415: "The Content-Type of the body is not supported.",
            422: "A parameter is out of its range, or the body does not fit the parameters of the task.",
            500: "The task raised an exception: see `exception`.",
            502: "The worker processes that ran the task died, or its result cannot be decoded.",
            503: "No worker started the call in time. With Retry-After: overload, or the broker is unavailable.",
            504: "A worker started the call, but it did not finish in time.",
        },
    )


def _duration(maximum: float | None) -> JsonObject:
    number: JsonObject = {"type": "number", "exclusiveMinimum": 0}
    schema = number if maximum is None else {**number, "maximum": maximum}
    return {"description": f"Seconds, or text like {EXAMPLES}.", "oneOf": [schema, DURATION_TEXT]}


def _health_check(name: str, summary: str, status: str) -> JsonObject:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": status}}}
    problems = {503: "Not at the moment; another gateway may."}
    responses = {200: response(f"The gateway is {status}.", json(schema))}
    return with_head(operation(name, summary, responses, tag="health", problems=problems))


def _openapi() -> JsonObject:
    schema = {"type": "object", "required": ["openapi", "info", "paths"]}
    responses = {200: response("An OpenAPI 3.1 document.", json(schema))}
    return operation("openapi", "Returns this description of the API.", responses, tag="health")


def _with_first_lines(schemas: dict[str, JsonObject]) -> dict[str, JsonObject]:
    """The schemas with only the first line of their docstrings; the rest is for readers of the source."""
    return {
        name: {**schema, "description": schema["description"].partition("\n")[0]} if "description" in schema else schema
        for name, schema in sorted(schemas.items())
    }

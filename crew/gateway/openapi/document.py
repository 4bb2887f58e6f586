"""`GET /openapi.json`: all that crew serves over HTTP, described for programs as OpenAPI 3.1 has it."""

from typing import Any, Final

import msgspec

import crew
from crew.gateway.calls.body import NoBodyMixin
from crew.gateway.calls.call_api import SERIALIZERS
from crew.gateway.calls.value_response import HeadMixin, ValueResponseMixin
from crew.gateway.openapi.schema_words import (
    ANYTHING,
    PREFER,
    TASK,
    VALUE,
    Words,
    answer,
    json,
    operation,
    parameter,
    readable,
)
from crew.gateway.problems import Problem, ProblemMixin
from crew.protocol.properties import MAX_PRIORITY

VERSION: Final = "3.1.1"
SECURITY: Final = {"token": {"type": "http", "scheme": "bearer", "description": "Where the gateway has a token."}}


class OpenApiHandler(NoBodyMixin, HeadMixin, ValueResponseMixin, ProblemMixin):
    """Answers with a document.

    Args:
        document: it, in JSON.
    """

    def initialize(self, *, document: bytes) -> None:
        """Take what the route gives."""
        self.document = document

    def get(self) -> None:
        """Answer."""
        self.respond_encoded(self.document)


def document(prefix: str, *, max_expiration: float, has_jobs: bool, max_page: int) -> dict[str, Any]:
    """What describes the routes below `prefix`.

    Args:
        max_expiration: seconds that a call may ask for.
        has_jobs: whether there are those of jobs.
        max_page: jobs on a page of a list.
    """
    paths: dict[str, Words] = {
        f"{prefix}/call/{{task}}": {"post": _call(max_expiration, has_jobs=has_jobs)},
        f"{prefix}/healthz": _asked_by_balancers("healthz", "200 while the process is alive.", "alive"),
        f"{prefix}/readyz": _asked_by_balancers(
            "readyz", "200 while a call would be sent at once and a job recorded.", "ready"
        ),
        f"{prefix}/openapi.json": readable(_description()),
    }
    _, schemas = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    if has_jobs:
        from crew.gateway.openapi import job_paths

        paths |= job_paths.paths(f"{prefix}/jobs/", max_page)
        schemas |= job_paths.schemas()
    return {
        "openapi": VERSION,
        "info": {"title": "crew", "version": crew.__version__, "description": "Calls of tasks, and jobs, over HTTP."},
        "security": [{}, {name: [] for name in SECURITY}],
        "paths": paths,
        "components": {"schemas": _in_short(schemas), "securitySchemes": SECURITY},
    }


def _call(max_expiration: float, *, has_jobs: bool) -> Words:
    priority = {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0}
    parameters = [
        parameter("task", "path", TASK, "Name of the task."),
        parameter("priority", "query", priority, "The larger first."),
        parameter("expiration", "query", _seconds(max_expiration), "Seconds that the call may take."),
        parameter("timeout", "query", _seconds(None), "Seconds that its task may run."),
    ]
    answers = {200: answer("The value of the task.", VALUE)}
    if has_jobs:
        parameters.append(PREFER)
        located = {"Location": "Path of the job.", "Preference-Applied": "What was heeded of Prefer."}
        told = "As was preferred, the call goes on as a job, found at Location."
        answers[202] = answer(told, json(ANYTHING), headers=located)
    return operation(
        "call",
        "Calls a task, waits, and answers with its value.",
        answers,
        tag="calls",
        parameters=parameters,
        body=dict.fromkeys(SERIALIZERS, ANYTHING),
        problems={
            400: "The body is not what its type says; a header cannot be read.",
            404: "No worker has ever served the task.",
            413: "The body is too large.",
            415: "The body has a type that is not accepted.",
            422: "An argument is out of its range.",
            500: "The task has raised an exception, which `exception` tells.",
            502: "Its workers died, or its value cannot be read.",
            503: "No worker took it in time; too much waits already, or the broker is away, with Retry-After.",
            504: "A worker took it and could not finish in time.",
        },
    )


def _seconds(maximum: float | None) -> Words:
    schema: Words = {"type": "number", "exclusiveMinimum": 0}
    return schema if maximum is None else {**schema, "maximum": maximum}


def _asked_by_balancers(name: str, summary: str, status: str) -> Words:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": status}}}
    problems = {503: "Not now: another gateway may."}
    answers = {200: answer("So it is.", json(schema))}
    return readable(operation(name, summary, answers, tag="health", problems=problems))


def _description() -> Words:
    schema = {"type": "object", "required": ["openapi", "info", "paths"]}
    return operation("openapi", "This description.", {200: answer("It.", json(schema))}, tag="health")


def _in_short(schemas: dict[str, Words]) -> dict[str, Words]:
    """With the first sentence of what tells of them: the rest is for who reads the sources."""
    return {
        name: {**schema, "description": schema["description"].partition("\n")[0]} if "description" in schema else schema
        for name, schema in sorted(schemas.items())
    }

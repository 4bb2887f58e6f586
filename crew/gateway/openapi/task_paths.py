"""The paths of the tasks that a gateway was given: `POST /call/<task>` with the schemas of arguments and value."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from crew.gateway.openapi.schema_words import JsonObject, json, operation, parameter, response, with_head
from crew.protocol.encoding import codec
from crew.signatures.registered import RegisteredTask
from crew.signatures.schema import schemas_of

SHARED: Final = "task.{name}"  # names of shared schemas in `components`: no other name there has a dot
TASK_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "required": ["task", "arguments", "result"],
    "properties": {
        "task": {"type": "string"},
        "arguments": {"type": "object", "description": "JSON Schema of the arguments, as one object."},
        "result": {"type": "object", "description": "JSON Schema of the value."},
        "payload": {"type": "string", "description": "The parameter that gets a payload itself, if there is one."},
    },
}


def paths_and_schemas(
    prefix: str, call: JsonObject, tasks: Mapping[str, RegisteredTask]
) -> tuple[dict[str, JsonObject], dict[str, JsonObject]]:
    """The routes that list tasks, with a path for each task, and the schemas that they share; none without tasks.

    Args:
        call: the operation that calls any task.
    """
    if not tasks:
        return {}, {}
    described, shared = schemas_of([task.signature for task in tasks.values()], f"#/components/schemas/{SHARED}")
    paths = {
        f"{prefix}/tasks/": _list(),
        f"{prefix}/tasks/{{task}}/": _show(tasks),
        **{f"{prefix}/call/{quote(one['task'], safe='')}": {"post": _call(call, one)} for one in described},
    }
    return paths, {SHARED.format(name=name): schema for name, schema in shared.items()}


def _call(call: JsonObject, described: dict[str, Any]) -> JsonObject:
    """The operation for one task: that for any task, with its schemas."""
    arguments = described["arguments"]
    payload = arguments["properties"][described["payload"]] if "payload" in described else arguments
    content = {one: {"schema": payload} for one in (codec.JSON, codec.MSGPACK)}
    value = response("The value of the task.", json(described["result"]))
    return {
        **call,
        "operationId": f"call {described['task']}",
        "summary": f"Calls the task {described['task']}, waits, and responds with its value.",
        "parameters": [one for one in call["parameters"] if one["name"] != "task"],
        "requestBody": {"required": False, "content": content},
        "responses": {**call["responses"], "200": value},
    }


def _list() -> JsonObject:
    schema = {"type": "object", "required": ["tasks"], "properties": {"tasks": {"type": "array", "items": TASK_SCHEMA}}}
    responses = {200: response("The tasks, sorted by name.", json(schema))}
    return with_head(operation("tasks", "Lists the tasks that this gateway describes.", responses, tag="tasks"))


def _show(tasks: Mapping[str, RegisteredTask]) -> JsonObject:
    responses = {200: response("The task.", json(TASK_SCHEMA))}
    name = parameter("task", "path", {"enum": list(tasks)}, "Name of the task.")
    problems = {404: "The gateway has no description of the task."}
    return with_head(
        operation("task", "Describes one task.", responses, tag="tasks", parameters=[name], problems=problems)
    )

"""Building blocks of an OpenAPI 3.1 document: functions that return operations, responses, parameters and schemas.

https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from crew.duration import PATTERN
from crew.gateway.problems import CONTENT_TYPE
from crew.protocol.encoding import codec
from crew.protocol.topology import NAME_BYTES

JsonObject = dict[str, Any]

ANYTHING: Final[JsonObject] = {}  # the schema of any JSON value
VALUE: Final = dict.fromkeys((codec.JSON, codec.MSGPACK, codec.BYTES), ANYTHING)  # content: the value of a task
OTHER_PROBLEMS: Final = (
    "Any other problem: missing or wrong token (401), request from a page of another web site (403), a limit is "
    "exceeded (429), the broker or the job store is unavailable (503), ..."
)

UNKNOWN_PARAMETER: Final = "The query has an unknown parameter."
DURATION_TEXT: Final[JsonObject] = {"type": "string", "pattern": f"^({PATTERN})$"}


def ref(name: str) -> JsonObject:
    """A reference to a schema in `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str, where: str, schema: JsonObject, description: str) -> JsonObject:
    """A parameter of a request, in its "query", "header" or "path". Those of the path are required."""
    found: JsonObject = {"name": name, "in": where, "description": description, "schema": schema}
    return {**found, "required": True} if where == "path" else found


def response(
    description: str, content: Mapping[str, JsonObject] | None = None, *, headers: Mapping[str, str] | None = None
) -> JsonObject:
    """A response: schemas by their content types, and headers with their descriptions."""
    found: JsonObject = {"description": description}
    if content:
        found["content"] = {content_type: {"schema": schema} for content_type, schema in content.items()}
    if headers:
        described = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
        found["headers"] = described
    return found


def json(schema: JsonObject) -> dict[str, JsonObject]:
    """JSON content with this schema."""
    return {codec.JSON: schema}


def operation(
    id: str,
    summary: str,
    responses: Mapping[int, JsonObject],
    *,
    tag: str,
    parameters: Sequence[JsonObject] = (),
    body: Mapping[str, JsonObject] | None = None,
    is_body_required: bool = False,
    problems: Mapping[int, str] | None = None,
) -> JsonObject:
    """One method of one path.

    Args:
        id: a unique name.
        summary: what it does.
        responses: the successful responses, by status.
        tag: its group.
        parameters: parameters of the request.
        body: schemas of the request's body, by content type.
        is_body_required: a request without a body is refused.
        problems: descriptions of the problem documents, by status.
    """
    found: JsonObject = {"operationId": id, "summary": summary, "tags": [tag]}
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        content = {content_type: {"schema": schema} for content_type, schema in body.items()}
        found["requestBody"] = {"required": is_body_required, "content": content}
    described = dict(problems or {})
    described[400] = f"{described[400]} {UNKNOWN_PARAMETER}" if 400 in described else UNKNOWN_PARAMETER
    refusals = {str(status): _problem(description) for status, description in described.items()}
    successes = {str(status): described for status, described in responses.items()}
    found["responses"] = {**successes, **refusals, "default": _problem(OTHER_PROBLEMS)}
    return found


def with_head(get: JsonObject, **others: JsonObject) -> dict[str, JsonObject]:
    """The methods of a path: GET, HEAD with the same responses without bodies, and `others` by lower-case names."""
    responses = {
        status: {name: value for name, value in described.items() if name != "content"}
        for status, described in get["responses"].items()
    }
    return {"get": get, "head": {**get, "operationId": f"{get['operationId']}Head", "responses": responses}, **others}


def _problem(description: str) -> JsonObject:
    return response(description, {CONTENT_TYPE: ref("Problem")})


PREFER: Final = parameter(
    "Prefer",
    "header",
    {"type": "string", "pattern": "^(respond-async|wait=[0-9]{1,12})(, *(respond-async|wait=[0-9]{1,12}))*$"},
    "RFC 7240. `wait=<seconds>`: the longest wait for the result. `respond-async`: do not wait.",
)
TASK: Final[JsonObject] = {"type": "string", "minLength": 1, "maxLength": NAME_BYTES, "pattern": r"^[^\x00-\x1f\x7f]*$"}

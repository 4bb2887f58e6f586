"""The words that a description of HTTP operations is made of, as OpenAPI 3.1 has them: plain values, which do nothing.

https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from crew.gateway.problems import CONTENT_TYPE
from crew.protocol.encoding import codec
from crew.protocol.topology import NAME_BYTES

Words = dict[str, Any]

ANYTHING: Final[Words] = {}  # the schema that all of JSON fits
VALUE: Final = dict.fromkeys((codec.JSON, codec.MSGPACK, codec.BYTES), ANYTHING)  # content: what a task returns
OF_OTHERS: Final = (
    "Any other problem: no token (401), a page of another site (403), more than may be (429), "
    "a gateway that is away (503), ..."
)


def ref(name: str) -> Words:
    """A schema of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str, where: str, schema: Words, told: str) -> Words:
    """Something that a request may say in its "query", "header" or "path"; of the path it has to."""
    found: Words = {"name": name, "in": where, "description": told, "schema": schema}
    return {**found, "required": True} if where == "path" else found


def answer(told: str, content: Mapping[str, Words] | None = None, *, headers: Mapping[str, str] | None = None) -> Words:
    """What is answered: schemas by their content types, and headers with what they tell."""
    found: Words = {"description": told}
    if content:
        found["content"] = {content_type: {"schema": schema} for content_type, schema in content.items()}
    if headers:
        described = {name: {"description": says, "schema": {"type": "string"}} for name, says in headers.items()}
        found["headers"] = described
    return found


def json(schema: Words) -> dict[str, Words]:
    """Content of JSON."""
    return {codec.JSON: schema}


def operation(
    id: str,
    summary: str,
    answers: Mapping[int, Words],
    *,
    tag: str,
    parameters: Sequence[Words] = (),
    body: Mapping[str, Words] | None = None,
    is_body_required: bool = False,
    problems: Mapping[int, str] | None = None,
) -> Words:
    """One method of one path.

    Args:
        id: a name for it that no other one has.
        summary: what it does.
        answers: what is answered where all is well, by status.
        tag: what it belongs to.
        parameters: what the request may say.
        body: schemas of the request's body, by content type.
        is_body_required: a request without one is refused.
        problems: why it may be refused, by status.
    """
    found: Words = {"operationId": id, "summary": summary, "tags": [tag]}
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        content = {content_type: {"schema": schema} for content_type, schema in body.items()}
        found["requestBody"] = {"required": is_body_required, "content": content}
    refusals = {str(status): _problem(told) for status, told in (problems or {}).items()}
    said = {str(status): told for status, told in answers.items()}
    found["responses"] = {**said, **refusals, "default": _problem(OF_OTHERS)}
    return found


def readable(get: Words, **others: Words) -> dict[str, Words]:
    """The methods of a path whose HEAD is its GET, but for the bodies; `others` by their names, in lower case."""
    responses = {
        status: {name: said for name, said in told.items() if name != "content"}
        for status, told in get["responses"].items()
    }
    return {"get": get, "head": {**get, "operationId": f"{get['operationId']}Head", "responses": responses}, **others}


def _problem(told: str) -> Words:
    return answer(told, {CONTENT_TYPE: ref("Problem")})


PREFER: Final = parameter(
    "Prefer",
    "header",
    {"type": "string", "pattern": "^(respond-async|wait=[0-9]{1,12})(, *(respond-async|wait=[0-9]{1,12}))*$"},
    "RFC 7240: `wait=<seconds>`, how long the client would wait; `respond-async`, not at all.",
)
TASK: Final[Words] = {"type": "string", "minLength": 1, "maxLength": NAME_BYTES, "pattern": r"^[^\x00-\x1f\x7f]*$"}

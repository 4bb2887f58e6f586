"""JSON Schema of a task: its arguments as one object, and its value."""

from collections.abc import Iterator, Sequence
from inspect import Parameter
from typing import Any, Final

import msgspec

from crew.signatures import annotations
from crew.signatures.signature import Signature

REFERENCE: Final = "#/$defs/{name}"


def schema_of(signature: Signature) -> dict[str, Any]:
    """The schemas of a task: `arguments` (an object with a member for each parameter), `result`, and shared `$defs`.

    A payload with this form can be sent, unless `payload` names the parameter that gets the payload itself.
    """
    (found,), shared = schemas_of([signature])
    return {**found, "$defs": shared} if shared else found


def schemas_of(
    signatures: Sequence[Signature], reference: str = REFERENCE
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The schemas of several tasks, each as `schema_of` without `$defs`; and the schemas that they share, by name.

    Args:
        reference: how they refer to a shared schema, with "{name}" in it.
    """
    kinds = [kind for one in signatures for kind in (*one.types.values(), one.result)]
    hook = annotations.schema_of_model
    schemas, shared = msgspec.json.schema_components(kinds, schema_hook=hook, ref_template=reference)
    rest = iter(schemas)
    return [_described(one, rest) for one in signatures], shared


def _described(signature: Signature, schemas: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The schemas of one task; takes those of its parameters and of its result."""
    properties = {one.name: {**next(schemas), **_default(one)} for one in signature.parameters}
    required = [one.name for one in signature.parameters if one.default is one.empty]
    arguments: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if not signature.takes_more:
        arguments["additionalProperties"] = False
    found: dict[str, Any] = {"task": signature.task, "arguments": arguments, "result": next(schemas)}
    if signature.takes_payload and signature.payload_name is not None:
        found["payload"] = signature.payload_name
    return found


def _default(parameter: Parameter) -> dict[str, Any]:
    """The default of a parameter, if it has one and JSON has the value."""
    if parameter.default is parameter.empty:
        return {}
    try:
        return {"default": msgspec.to_builtins(parameter.default, str_keys=True, enc_hook=annotations.encode_model)}
    except Exception:
        return {}

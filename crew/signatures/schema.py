"""JSON Schema of a task: its arguments as one object, and its value."""

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
    kinds = [*signature.types.values(), signature.result]
    hook = annotations.schema_of_model
    schemas, shared = msgspec.json.schema_components(kinds, schema_hook=hook, ref_template=REFERENCE)
    *of_parameters, of_result = schemas
    properties = {
        parameter.name: {**schema, **_default(parameter)}
        for parameter, schema in zip(signature.parameters, of_parameters, strict=True)
    }
    required = [one.name for one in signature.parameters if one.default is one.empty]
    arguments: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if not signature.takes_more:
        arguments["additionalProperties"] = False
    found: dict[str, Any] = {"task": signature.task, "arguments": arguments, "result": of_result}
    if signature.takes_payload and signature.payload_name is not None:
        found["payload"] = signature.payload_name
    return {**found, "$defs": shared} if shared else found


def _default(parameter: Parameter) -> dict[str, Any]:
    """The default of a parameter, if it has one and JSON has the value."""
    if parameter.default is parameter.empty:
        return {}
    try:
        return {"default": msgspec.to_builtins(parameter.default, str_keys=True, enc_hook=annotations.encode_model)}
    except Exception:
        return {}

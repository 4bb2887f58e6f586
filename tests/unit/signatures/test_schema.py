"""JSON Schemas of tasks."""

import dataclasses
import datetime
from typing import Any

import pydantic

from crew.signatures.schema import schema_of
from crew.signatures.signature import signature_of


class User(pydantic.BaseModel):
    name: str


@dataclasses.dataclass
class Booking:
    day: datetime.date
    guests: list[User]


def test_arguments_are_an_object_with_a_member_for_each_parameter() -> None:
    def book(booking: Booking, *, notes: Any = None, until: datetime.date = datetime.date(2026, 1, 2)) -> bool:
        return True

    schema = schema_of(signature_of("book", book))
    assert schema["task"] == "book"
    assert schema["arguments"] == {
        "type": "object",
        "properties": {
            "booking": {"$ref": "#/$defs/Booking"},
            "notes": {"default": None},
            "until": {"type": "string", "format": "date", "default": "2026-01-02"},
        },
        "required": ["booking"],
        "additionalProperties": False,
    }
    assert schema["result"] == {"type": "boolean"}
    guests = schema["$defs"]["Booking"]["properties"]["guests"]
    assert guests["items"]["properties"]["name"]["type"] == "string"
    assert "payload" not in schema


def test_a_function_with_one_parameter_names_it_as_the_one_for_a_payload() -> None:
    assert schema_of(signature_of("t", lambda data: data)) == {
        "task": "t",
        "arguments": {
            "type": "object",
            "properties": {"data": {}},
            "required": ["data"],
            "additionalProperties": False,
        },
        "result": {},
        "payload": "data",
    }


def test_a_default_that_json_lacks_is_left_out_and_more_names_are_allowed_with_kwargs() -> None:
    schema = schema_of(signature_of("t", lambda a=print, **more: more))
    assert schema["arguments"] == {"type": "object", "properties": {"a": {}}, "required": []}

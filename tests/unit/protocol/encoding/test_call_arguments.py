"""Arguments travel as one value, which no receiver takes for a payload."""

import math
from typing import Any

import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import codec
from crew.protocol.encoding.call_arguments import Arguments
from crew.protocol.message import Body


@pytest.mark.parametrize("serializer", ["json", "msgpack", None])
@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_arguments_arrive_as_they_were(serializer: str | None, size: int) -> None:
    arguments = Arguments([1, "a" * size], {"width": [640] * 3})
    body = codec.encode(arguments, serializer)
    assert codec.decode(body) == arguments
    codec.check(body, codec.decoder(["json", "msgpack"], 10_000_000))


def test_a_receiver_that_does_not_know_arguments_refuses_them() -> None:
    body = codec.encode(Arguments([1]))
    assert body.content_type == "application/vnd.crew.arguments+json"
    with pytest.raises(SerializationError, match=r"application/vnd\.crew\.arguments\+json' is not accepted here, only"):
        codec.decode(body, allowed={codec.JSON, codec.MSGPACK})


def test_a_receiver_accepts_arguments_in_the_formats_that_it_accepts() -> None:
    decode = codec.decoder(["json"], 1000)
    assert decode(codec.encode(Arguments([1]))) == Arguments([1])
    with pytest.raises(SerializationError, match=r"is not accepted here, only application/json$"):
        decode(codec.encode(Arguments([1]), "msgpack"))


def test_arguments_without_members_are_short() -> None:
    assert codec.encode(Arguments()).data == b"{}"
    assert codec.encode(Arguments([1])).data == b'{"args":[1]}'
    assert codec.encode(Arguments((), {"a": 1})).data == b'{"kwargs":{"a":1}}'


@pytest.mark.parametrize("serializer", ["text", "bytes"])
def test_other_serializers_are_a_value_error(serializer: str) -> None:
    with pytest.raises(ValueError, match="serializer must be json or msgpack for a call with arguments"):
        codec.encode(Arguments(["a"]), serializer)


def test_a_refused_argument_is_named() -> None:
    with pytest.raises(SerializationError, match=r"\$\.kwargs\.when: a complex would not arrive as it is"):
        codec.encode(Arguments([], {"when": 1j}))


@pytest.mark.parametrize("data", [b"[]", b"7", b'{"args":1}', b'{"kwargs":[]}', b'{"more":1}', b'{"args":{}}', b""])
@pytest.mark.parametrize("padding", [0, 100_000])
def test_a_body_of_another_form_is_a_serialization_error(data: bytes, padding: int) -> None:
    with pytest.raises(SerializationError, match="the body is not valid application/vnd"):
        codec.decode(Body(data + b" " * padding, "application/vnd.crew.arguments+json"))


def test_names_of_arguments_are_text() -> None:
    keys: Any = {"kwargs": {1: 2}}
    body = codec.encode(keys, "msgpack")
    with pytest.raises(SerializationError, match="kwargs must be an object"):
        codec.decode(Body(body.data, "application/vnd.crew.arguments+msgpack"))


@pytest.mark.parametrize(
    "arguments", [Arguments([float("nan")], is_exact=True), Arguments([[{"a": -math.inf}]], is_exact=True)]
)
def test_a_number_that_is_not_finite_is_refused_in_exact_arguments_too(arguments: Arguments) -> None:
    with pytest.raises(SerializationError, match="JSON has no number"):
        codec.encode(arguments)
    assert codec.decode(codec.encode(Arguments([None], is_exact=True))) == Arguments([None])


def test_exactness_is_not_believed_from_a_sender() -> None:
    with pytest.raises(SerializationError, match="unknown field `is_exact`"):
        codec.decode(Body(b'{"args":[1],"is_exact":true}', "application/vnd.crew.arguments+json"))

"""A payload is encoded so that an equal value arrives, or refused with a reason; a large one like a small one."""

import collections
import datetime
import decimal
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import codec, encoders

NAN, INFINITE = float("nan"), float("inf")
NOW = datetime.datetime(2026, 1, 1)

ROWS = [
    {"id": i, "name": f"row {i}", "at": i * 1.5, "tags": ["a", "b"], "size": (1, None), "is": True} for i in range(500)
]


class Text(str):
    """Not a plain str."""


def reordered() -> collections.OrderedDict[str, Any]:
    """An OrderedDict whose order is not that in which its keys were added."""
    ordered: collections.OrderedDict[str, Any] = collections.OrderedDict(first=1, last=(2, [3]))
    ordered.move_to_end("first")
    return ordered


ENCODERS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "json": (encoders.encode_json, msgspec.json.decode),
    "msgpack": (encoders.encode_msgpack, msgspec.msgpack.decode),
}
SCALARS: list[Any] = ["text", 1, True, None, 0.5]
VALUES: list[Any] = [
    *SCALARS,
    SCALARS,
    [[], {}, *SCALARS],
    [0.5, 1.5],
    ["a", 0.5, None],
    {"a": 1, "b": 0.5, "c": {"d": [0.5, {}]}},
    [{**row, "size": [1, None]} for row in ROWS],
]


@pytest.mark.parametrize("serializer", ENCODERS)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_plain_value_arrives_as_it_is(value: Any, serializer: str) -> None:
    encode, decode = ENCODERS[serializer]
    received = decode(encode(value))
    assert (received, repr(received)) == (value, repr(value))


@pytest.mark.parametrize("serializer", ENCODERS)
@pytest.mark.parametrize(
    ("value", "received"),
    [
        ((1, (2, [])), [1, [2, []]]),
        (reordered(), {"last": [2, [3]], "first": 1}),
        ([0.5, {"a": [reordered(), None]}], [0.5, {"a": [{"last": [2, [3]], "first": 1}, None]}]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (type("Rows", (list,), {})([1, reordered()]), [1, {"last": [2, [3]], "first": 1}]),
    ],
    ids=["tuple", "OrderedDict", "inside", "Counter", "list"],
)
def test_a_container_of_another_class_arrives_as_a_plain_one_in_its_order(
    value: Any, received: Any, serializer: str
) -> None:
    encode, decode = ENCODERS[serializer]
    assert repr(decode(encode(value))) == repr(received)


PLACES: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"a": value},
    lambda value: [0.5, value, "text"],
    lambda value: [[value], 1],
    lambda value: [[value], 0.5, [1]],
    lambda value: {"a": (1, {"b": value}), "c": {}},
    lambda value: collections.OrderedDict(a=[value]),
]
REFUSED: list[tuple[str, Any, str]] = [
    ("json", NAN, "JSON has no number nan"),
    ("json", -INFINITE, "JSON has no number -inf"),
    ("json", b"x", 'a bytes would not arrive as it is in JSON; use serializer="msgpack", or base64'),
    ("json", {1: 2}, "it has the key 1, but keys in JSON are strings"),
    ("json", {"a": 1, ("b", "c"): 2}, "it has the key ('b', 'c'), but keys in JSON are strings"),
    ("msgpack", {0.5: 2}, "it has the key 0.5, which would not arrive as it is"),
    ("msgpack", {"a": 1, True: 2}, "it has the key True, which would not arrive as it is"),
    ("msgpack", {("b", "c"): 2}, "it has the key ('b', 'c'), which would not arrive as it is"),
    ("json", Text("a"), "Encoding objects of type Text is unsupported"),
    *(
        (serializer, value, f"a {kind} would not arrive as it is; convert it first, for example with str()")
        for serializer in ENCODERS
        for value, kind in [(NOW, "datetime"), ({1}, "set"), (decimal.Decimal(1), "Decimal")]
    ),
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize(("serializer", "value", "reason"), REFUSED, ids=repr)
def test_a_value_that_would_not_arrive_as_it_is_is_refused_and_its_place_is_named(
    place: Any, serializer: str, value: Any, reason: str
) -> None:
    payload = place(value)
    encode, _ = ENCODERS[serializer]
    with pytest.raises(encoders.REFUSALS) as refused:
        encode(payload)
    path, _, found = encoders.located(refused.value, payload, encode).partition(": ")
    assert found == reason
    at: Any = payload
    for step in path.replace("[", ".").replace("]", "").split(".")[1:]:
        at = at[int(step) if step.isdigit() else step]
    assert at is value


def test_messagepack_carries_bytes_numbers_as_keys_and_every_float() -> None:
    value = {b"raw": [b"x", INFINITE, {1: 2}], 7: {"a": -INFINITE}}
    assert msgspec.msgpack.decode(encoders.encode_msgpack(value)) == value


def test_a_text_that_cannot_be_encoded_is_located() -> None:
    payload = {"a": ["text", "\ud800"]}
    with pytest.raises(UnicodeEncodeError) as refused:
        encoders.encode_json(payload)
    assert encoders.located(refused.value, payload, encoders.encode_json).startswith("$.a[1]: 'utf-8' codec can't")


def test_text_is_sent_as_utf_8_and_bytes_as_they_are() -> None:
    assert encoders.encode_text("é") == "é".encode()
    for data in (b"\xff", bytearray(b"\xff"), memoryview(b"\xff")):
        assert encoders.encode_bytes(data) == b"\xff"


@pytest.mark.parametrize(
    ("encode", "payload", "reason"),
    [(encoders.encode_text, b"x", "a bytes is not a str"), (encoders.encode_bytes, "x", "a str is not bytes")],
)
def test_text_and_bytes_are_refused_as_a_whole(encode: Any, payload: Any, reason: str) -> None:
    with pytest.raises(TypeError) as refused:
        encode(payload)
    assert str(refused.value) == reason
    assert encoders.located(refused.value, payload, encode) == reason


def test_records_are_plain() -> None:
    assert len(encoders.encode_json(ROWS)) > encoders.WIDE_ABOVE
    values: list[Any] = [*VALUES, ROWS, {"rows": ROWS}, [[[]]], (1, 2), [{}, [], (), *SCALARS]]
    assert all(encoders.is_plain(value, encoders.encode_json(value)) for value in values)


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize("value", [b"bytes", {1}, NAN, INFINITE, NOW, {1: 2}, {Text("a"): 1}, Text("b")], ids=repr)
def test_one_value_that_would_not_arrive_as_it_is_is_found_in_a_large_payload(place: Any, value: Any) -> None:
    assert not encoders.is_plain(place(value), b"null")
    payload = [*ROWS, place(value)]
    assert not encoders.is_plain(payload, b"null")
    with pytest.raises(encoders.REFUSALS):
        encoders.encode_json(payload)


def test_the_place_of_a_refused_value_in_a_large_payload_is_named() -> None:
    with pytest.raises(SerializationError, match=r"\$\[0\]\.at: JSON has no number nan"):
        codec.encode([{"at": NAN}, *ROWS], "json")


def test_subclasses_of_containers_arrive_as_plain_ones_in_a_large_payload() -> None:
    payload = [*ROWS, collections.OrderedDict(b=1, a=2), collections.Counter("aab")]
    assert codec.decode(codec.encode(payload, "json"))[500:] == [{"b": 1, "a": 2}, {"a": 2, "b": 1}]


def test_messagepack_carries_numbers_that_are_not_finite_in_a_large_payload() -> None:
    payload = [*ROWS, float("inf"), "null"]
    assert codec.decode(codec.encode(payload, "msgpack"))[500:] == [float("inf"), "null"]

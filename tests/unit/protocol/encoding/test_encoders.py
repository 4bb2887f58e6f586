"""A large payload is checked level by level, and refused like a small one."""

import collections
import datetime
from typing import Any

import msgspec
import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import codec, encoders

ROWS = [
    {"id": i, "name": f"row {i}", "at": i * 1.5, "tags": ["a", "b"], "size": (1, None), "is": True} for i in range(900)
]


class Text(str):
    """Not a plain str."""


def test_records_are_plain() -> None:
    values: list[Any] = [ROWS, {"rows": ROWS}, "text", 1, None, [], {}, [[[]]], [0.5], (1, 2)]
    assert all(encoders.is_plain(value, msgspec.json.encode(value)) for value in values)


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1}, float("nan"), float("inf"), datetime.datetime(2026, 1, 1), {1: 2}, {Text("a"): 1}, Text("b")],
    ids=repr,
)
@pytest.mark.parametrize("hidden", [lambda value: value, lambda value: [value], lambda value: {"a": (1, {"b": value})}])
def test_one_value_that_would_not_arrive_as_it_is_is_found_in_a_large_payload(hidden: Any, value: Any) -> None:
    payload = [*ROWS, hidden(value)]
    assert not encoders.is_plain(payload, b"null")
    with pytest.raises(SerializationError, match=r"\$\[900\]"):
        codec.encode(payload, "json")


def test_subclasses_of_containers_arrive_as_plain_ones_in_a_large_payload() -> None:
    payload = [*ROWS, collections.OrderedDict(b=1, a=2), collections.Counter("aab")]
    assert codec.decode(codec.encode(payload, "json"))[900:] == [{"b": 1, "a": 2}, {"a": 2, "b": 1}]


def test_msgpack_carries_numbers_that_are_not_finite_in_a_large_payload() -> None:
    payload = [*ROWS, float("inf"), "null"]
    assert codec.decode(codec.encode(payload, "msgpack"))[900:] == [float("inf"), "null"]

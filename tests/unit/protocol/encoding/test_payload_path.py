"""The path to the value that a serializer refuses."""

import time
from typing import Any

import pytest

from crew.protocol.encoding.payload_path import MAX_LEVELS, MAX_TIME, refused_value


def refusal(value: Any) -> Exception | None:
    """Refuse sets, and every container that has one in it."""
    if isinstance(value, set):
        return ValueError("a set")
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return ValueError("it contains a set") if any(refusal(member) for member in members) else None


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (set(), "$"),
        ([1, set()], "$[1]"),
        ((set(), set()), "$[0]"),
        ({"a": 1, "items": [{"when": set()}]}, "$.items[0].when"),
        ({"two words": set()}, "$['two words']"),
        ({5: set()}, "$[5]"),
        ({"k" * 60: set()}, "$." + "k" * 60),
        ({"k" * 61: set()}, "$['" + "k" * 59 + "...]"),
        ({"k k" + "k" * 55: set()}, "$['k k" + "k" * 55 + "']"),
    ],
)
def test_the_path_leads_to_the_first_refused_value(payload: Any, path: str) -> None:
    assert refused_value(payload, refusal) == (path, "a set")


def test_a_container_whose_members_are_all_accepted_is_refused_itself() -> None:
    assert refused_value([1], lambda value: ValueError("too short") if value == [1] else None) == ("$", "too short")


def test_a_value_that_contains_itself_is_recognized() -> None:
    inner: list[Any] = []
    inner.append(inner)
    outer = {"a": inner}
    assert refused_value(outer, lambda value: RecursionError()) == ("$.a[0]", "it contains itself")
    assert refused_value(inner, lambda value: RecursionError()) == ("$[0]", "it contains itself")


def test_a_value_that_is_nested_too_deeply_has_a_path_of_limited_length() -> None:
    deep: list[Any] = []
    for _ in range(MAX_LEVELS * 2):
        deep = [deep]
    path, reason = refused_value(deep, lambda value: RecursionError())
    assert path == "$" + "[0]" * MAX_LEVELS
    assert reason == "it is nested too deeply, or contains itself"


def test_the_search_ends_after_a_quarter_of_a_second() -> None:
    def slow(value: Any) -> Exception | None:
        time.sleep(0.01)
        return ValueError("refused") if isinstance(value, list) or value == 499 else None

    before = time.monotonic()
    assert refused_value(list(range(500)), slow) == ("$", "refused")
    assert MAX_TIME <= time.monotonic() - before < 3

"""Guesses where a large JSON text can be cut; a wrong guess never changes the value."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol.encoding import json_cut, large_json
from crew.protocol.encoding.limits import DEFAULT, Budget

RECORD = {"id": 1, "name": "a, b", "tags": ["x", "y"], "at": {"x": 0.5, "y": {"z": [1, 2]}}, "": None}


@pytest.mark.parametrize(
    "members",
    [[RECORD] * 50, [1.5] * 900, ["a, b"] * 900, [[1, [2]]] * 900],
    ids=["records", "numbers", "strings", "arrays"],
)
def test_a_guess_ends_a_member(members: list[Any]) -> None:
    data = msgspec.json.encode(members)
    for until in range(1_000, 1_200):
        end = json_cut.members_end(data, 1, until)
        found = msgspec.json.decode(b"[" + data[1:end] + b"]")
        assert found == members[: len(found)]
        assert until - end < 200


def test_no_guess_is_made_inside_one_long_member() -> None:
    data = msgspec.json.encode(["x" * 5_000, [[1] * 5_000]])
    assert json_cut.members_end(data, 1, 4_000) == 0
    assert json_cut.members_end(data, 5_004, 9_000) == 0


def test_a_string_is_cut_outside_of_characters_and_escapes() -> None:
    text = 'é€\U0001f600"\\\n'
    for is_ascii in (False, True):
        data = json.dumps(text * 20, ensure_ascii=is_ascii).encode() + b","
        for until in range(2, len(data) - 2):
            end, is_end = json_cut.string_end(data, 1, until)
            assert not is_end
            if end:
                msgspec.json.decode(b'"' + data[1:end] + b'"')
    data = b'"plain text", "more"'
    assert json_cut.string_end(data, 1, 20) == (11, True)
    assert json_cut.string_end(b'"without an end', 1, 100) == (0, False)


_texts = st.text(alphabet='[]{}",:\\ae\x7f€\U0001f600\n', max_size=300)
_values = st.recursive(
    _texts | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(_texts, inner, max_size=9),
    max_leaves=40,
)


@given(value=_values, is_ascii=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=50)
def test_text_that_looks_like_json_is_decoded_to_the_same_value(value: Any, is_ascii: bool, indent: int | None) -> None:
    """In several pieces, each of which is cut at another place."""
    size = len(json.dumps(value, ensure_ascii=is_ascii, indent=indent))
    values = [value] * (3 * large_json.PIECE // size + 1)
    data = json.dumps(values, ensure_ascii=is_ascii, indent=indent).encode()
    assert large_json.decode(data, Budget(DEFAULT)) == values

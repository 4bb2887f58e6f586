"""Guesses where a large JSON text can be cut; a wrong guess never changes the value."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol.encoding import json_cut, large_json
from crew.protocol.encoding.limits import DEFAULT, Budget

RECORD = {"id": 1, "name": "a, b", "tags": ["x", "y"], "at": {"x": 0.5, "y": {"z": [1, 2]}}, "": None}
QUOTED = {"id": 1, "text": 'a " quote, "and" more', "tags": ["x", {"y": ""}]}


def members_of(values: list[Any]) -> tuple[bytes, list[int]]:
    """The JSON of an array without its brackets, and the positions of the commas between its members."""
    sizes = [len(msgspec.json.encode(value)) for value in values[:-1]]
    commas = [size + at for at, size in enumerate(itertools.accumulate(sizes))]
    return msgspec.json.encode(values)[1:-1], commas


@pytest.mark.parametrize(
    "member",
    [RECORD, 1.5, "a, b", [1, [2]], [[], {}], {"a": {"b": 1}}, "[a, b]", {"a": "{b, c}, [d]"}],
    ids=["record", "number", "string", "array", "empty", "object", "brackets", "brackets in an object"],
)
def test_a_guess_is_the_last_comma_that_ends_a_member(member: Any) -> None:
    data, commas = members_of([member] * 60)
    for until in range(len(data)):
        assert json_cut.members_end(data[:until]) == max((comma for comma in commas if comma < until), default=0)


def test_a_guess_ends_a_member_although_quotes_are_escaped() -> None:
    data, commas = members_of([QUOTED, {**QUOTED, "more": '"'}] * 20)
    for until in range(300, len(data)):
        end = json_cut.members_end(data[:until])
        assert end in commas
        assert until - end <= 3 * max(later - comma for comma, later in itertools.pairwise(commas))


def test_no_guess_is_made_inside_one_long_member() -> None:
    assert json_cut.members_end(b'"' + b"x" * 5_000) == 0
    assert json_cut.members_end(b"[[1,[2],") == 0
    assert json_cut.members_end(b'"a":{"b":1,"c') == 0


def test_no_guess_is_made_where_the_container_ends() -> None:
    assert json_cut.members_end(b'1,2],"b":[3,4]') == 0
    assert json_cut.members_end(b'{"a":1},2]}') == 0
    assert json_cut.members_end(b'"a":1,"b":2},3') == 0


def test_a_guess_is_given_up_after_some_thousand_marks() -> None:
    """So that the time for a guess has a limit."""
    assert json_cut.members_end(b"1,[" + b"2," * 1_500) == 1
    assert json_cut.members_end(b"1,[" + b"2," * 10_000) == 0


def test_a_string_is_cut_outside_of_characters_and_escapes() -> None:
    for text in ("é€\U0001f600\\\n", "\\\\\n", "a\\u1\U0001f600u", "\\\U0001f600\\"):
        for is_ascii in (False, True):
            data = json.dumps(text * 20, ensure_ascii=is_ascii).encode()[1:-1]
            for until in range(1, len(data)):
                end, is_end = json_cut.string_end(data[:until])
                assert not is_end
                assert until - end < len(r"\ud83d\ude00")
                whole = msgspec.json.decode(b'"' + data[:end] + b'"')
                assert (text * 20).startswith(whole)


def test_a_string_is_cut_at_its_end() -> None:
    assert json_cut.string_end(b'plain text", "more"') == (10, True)
    assert json_cut.string_end(b'", "more"') == (0, True)
    assert json_cut.string_end(b'a "" b') == (2, True)
    assert json_cut.string_end(b"without an end") == (14, False)
    for escaped in (b'a \\"quoted\\" text"', b'\\"quoted"'):
        assert json_cut.string_end(escaped) == (0, False), "its end is not guessed"


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

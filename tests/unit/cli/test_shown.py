"""Text of other programs is made safe for a terminal."""

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.cli.shown import moment, plain, shown, shown_lines

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.binary(), inner, max_size=3),
)


@given(st.text())
def test_shown_text_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()


@given(st.text())
def test_line_breaks_are_kept(text: str) -> None:
    lines = shown_lines(text).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert all(line.isprintable() for line in lines)


def test_only_unprintable_characters_are_escaped() -> None:
    assert shown("größer, 大 and 100 %") == "größer, 大 and 100 %"
    assert shown("a\x1b[2J\u202e") == "a\\x1b[2J\\u202e"
    assert shown("x" * 20, 10) == "xxxxxxx..."


@given(anything)
def test_any_value_becomes_json_in_ascii(value: Any) -> None:
    line = json.dumps(plain(value), allow_nan=False)
    assert line.isascii()
    assert line.isprintable()


def test_values_are_converted_to_types_of_json() -> None:
    assert plain({b"\xff": Decimal("1.5"), "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}) == {
        "\\xff": "1.5",
        "at": "2026-01-02T00:00:00+00:00",
    }


def test_nested_tables_are_cut_at_a_depth() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert "..." in json.dumps(plain(value))


@pytest.mark.parametrize(
    ("epoch", "text"), [(None, None), (0, "1970-01-01T00:00:00Z"), (2**64 - 1, "18446744073709551615")]
)
def test_a_moment_is_a_date_or_a_number(epoch: int | None, text: str | None) -> None:
    assert moment(epoch) == text

"""Durations: numbers of seconds and text."""

from typing import Any

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crew.command_line import DurationType
from crew.duration import parse_duration, wait_time

TEXTS = [
    ("90", 90.0),
    ("1.5s", 1.5),
    (".5", 0.5),
    ("500ms", 0.5),
    ("15m", 900.0),
    ("1m30s", 90.0),
    ("1h30m", 5_400.0),
    ("1.5h", 5_400.0),
    ("12h", 43_200.0),
    ("7d", 604_800.0),
    ("1d2h3m4s5ms", 93_784.005),
]
NOT_DURATIONS = ["", "d", "-1", "1w", "1 d", "nan", "inf", "1e9", "30m1h", "1h30", "1s1s", "10M", "1٣"]


@pytest.mark.parametrize(("text", "seconds"), TEXTS)
def test_text_with_units_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration("timeout", text) == pytest.approx(seconds)
    assert DurationType().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_other_text_is_refused_with_examples(text: str) -> None:
    examples = 'a number of seconds, or text like "90", "10m", "1h30m" or "500ms", not'
    with pytest.raises(ValueError, match=f"^timeout must be {examples} '{text}'$"):
        parse_duration("timeout", text)
    with pytest.raises(click.BadParameter, match=f"^it must be {examples}"):
        DurationType().convert(text, None, None)


@given(st.floats(min_value=0, max_value=366 * 86_400, exclude_min=True) | st.integers(1, 366 * 86_400))
@example(366 * 86_400)
def test_any_number_of_seconds_up_to_a_year_is_a_duration(value: float) -> None:
    checked = parse_duration("expiration", value)
    assert checked == value
    assert type(checked) is float


@given(
    st.none()
    | st.booleans()
    | st.text(alphabet=st.characters(exclude_characters="0123456789"))
    | st.floats(max_value=0)
    | st.floats(min_value=366 * 86_400, exclude_min=True)
    | st.just(float("nan"))
    | st.integers(max_value=0)
    | st.integers(min_value=366 * 86_400 + 1)
    | st.lists(st.integers())
)
@example(10**400)
@example("367d")
@example("0")
@example(0.0)
def test_anything_else_is_a_value_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(ValueError, match="expiration"):
        parse_duration("expiration", value)


def test_zero_and_longer_durations_are_accepted_only_where_they_are_allowed() -> None:
    assert parse_duration("wait", "0", may_be_zero=True) == 0
    assert parse_duration("wait", 0, may_be_zero=True) == 0
    assert parse_duration("older_than", "400d", most=float("inf")) == 400 * 86_400
    with pytest.raises(ValueError, match=r"^wait must be at least 0 and at most 31622400 seconds, not -1$"):
        parse_duration("wait", -1, may_be_zero=True)
    with pytest.raises(ValueError, match=r"^older_than must be greater than 0 seconds, not '0'$"):
        parse_duration("older_than", "0", most=float("inf"))
    with pytest.raises(click.BadParameter, match="greater than 0 and at most 31622400 seconds, not '0s'"):
        DurationType().convert("0s", None, None)


def test_a_wait_may_be_text_or_a_number_that_is_already_over() -> None:
    assert wait_time("1m") == 60
    assert wait_time("0") == 0
    assert wait_time(-0.1) == -0.1
    assert wait_time(None) is None
    with pytest.raises(ValueError, match="timeout must be a number of seconds, or text"):
        wait_time("soon")

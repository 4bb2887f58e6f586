"""Durations on a command line."""

import click
import pytest

from crew.cli.duration import Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5s", 1.5), ("15m", 900.0), ("12h", 43_200.0), ("7d", 604_800.0)]
)
def test_a_number_and_its_unit_are_seconds(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1", "1w", "1 d", "nan", "inf", "1e9"])
def test_anything_else_is_told_with_the_way_out(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90 for seconds, or 15m, 12h, 7d"):
        Duration().convert(text, None, None)

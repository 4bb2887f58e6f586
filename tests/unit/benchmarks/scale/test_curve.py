"""The curves of `make bench-scale`: medians, ratios within a round, and bends."""

import pytest
from scale.curve import Column, Curve

COST = Column("CPU", is_cost=True)
RATE = Column("rate")


def curve(*figures: list[float], is_ordered: bool = True) -> Curve:
    """A curve of one cost with a point for each list, which has a figure for each round."""
    made = Curve("title", "parameter", (COST, RATE), is_ordered=is_ordered)
    for point, values in enumerate(figures):
        made.add(str(point), {})
        for value in values:
            made.add(str(point), {COST.name: value})
    return made


def test_a_point_has_the_median_of_its_rounds() -> None:
    assert curve([1, 9, 2]).median("0", COST) == 2
    assert curve([1]).median("0", RATE) is None


def test_a_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    assert curve([1, 10, 100], [3, 20, 200]).ratio("1", COST) == 2


def test_points_with_other_numbers_of_rounds_are_compared_by_their_medians() -> None:
    assert curve([1, 2, 3], [8]).ratio("1", COST) == 4


def test_the_ratio_is_to_the_first_point_that_has_the_figure() -> None:
    assert curve([], [2], [6]).ratio("2", COST) == 3


def test_points_keep_the_order_in_which_they_were_first_added() -> None:
    made = curve([], [])
    made.add("1", {COST.name: 1})
    made.add("0", {COST.name: 1})
    assert list(made.points) == ["0", "1"]


def test_a_figure_that_is_none_is_left_out() -> None:
    made = curve([1])
    made.add("0", {COST.name: None})
    assert made.points == {"0": {COST.name: [1]}}


def test_an_unknown_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="title: there is no column 'memory'"):
        curve().add("0", {"memory": 1})


def test_a_flat_curve_has_no_bend() -> None:
    assert curve([100], [110], [120], [100]).bends(COST) == []


def test_a_curve_bends_where_a_cost_is_a_quarter_above_or_a_fifth_below_the_point_before() -> None:
    assert curve([100], [125], [125], [100]).bends(COST) == ["1", "3"]


def test_a_slow_rise_is_no_bend() -> None:
    assert curve([100], [120], [144], [172]).bends(COST) == []


def test_points_without_the_figure_are_left_out_of_the_comparison() -> None:
    assert curve([100], [], [130]).bends(COST) == ["2"]


def test_only_costs_of_ordered_points_bend() -> None:
    assert curve([100], [200], is_ordered=False).bends(COST) == []
    made = curve([], [])
    made.add("0", {RATE.name: 1})
    made.add("1", {RATE.name: 9})
    assert made.bends(RATE) == []

"""The options of `make bench-scale`: which points are measured, and in which order."""

from scale.options import Options


def test_all_points_are_measured_unless_some_are_chosen() -> None:
    assert Options(rounds=1, seconds=1).points((1, 10, 100)) == [1, 10, 100]
    assert Options(rounds=1, seconds=1, only=(100, 1)).points((1, 10, 100)) == [1, 100]


def test_a_curve_without_a_chosen_point_keeps_its_points() -> None:
    assert Options(rounds=1, seconds=1, only=(1000,)).points((1, 2)) == [1, 2]


def test_the_points_take_turns_in_both_orders() -> None:
    assert Options(rounds=3, seconds=1).turns([1, 2, 3]) == [[1, 2, 3], [3, 2, 1], [1, 2, 3]]

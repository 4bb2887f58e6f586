"""The options of `make bench-scale`: which points are measured, and in which order."""

from scale.options import Options


def test_all_points_are_measured_unless_some_are_too_large() -> None:
    assert Options(rounds=1, seconds=1).points((1, 10, 100)) == [1, 10, 100]
    assert Options(rounds=1, seconds=1, at_most=10).points((1, 10, 100)) == [1, 10]


def test_the_first_point_is_always_measured() -> None:
    assert Options(rounds=1, seconds=1, at_most=2).points((5, 100)) == [5]


def test_the_points_take_turns_in_both_orders() -> None:
    assert Options(rounds=3, seconds=1).turns([1, 2, 3]) == [[1, 2, 3], [3, 2, 1], [1, 2, 3]]

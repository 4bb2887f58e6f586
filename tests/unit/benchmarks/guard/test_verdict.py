"""The decision of `make bench-guard`: series of ratios, with and without noise."""

import math
import random
from collections.abc import Callable

import pytest
from guard.verdict import LOOKS, Interval, Verdict, interval, overall, verdict

TRIALS = 200


def decided(draw: Callable[[], float]) -> Verdict:
    """The verdict of a run that measures until it is decided."""
    ratios: list[float] = []
    for rounds in LOOKS:
        ratios += [draw() for _ in range(rounds - len(ratios))]
        if (found := verdict(ratios)) is not Verdict.UNDECIDED:
            return found
    return Verdict.UNDECIDED


def share(expected: Verdict, *, ratio: float, noise: float) -> float:
    """Which share of runs has this verdict, when each ratio is `ratio` times a log-normal factor of this width."""
    source = random.Random(1)
    runs = [decided(lambda: ratio * math.exp(source.gauss(0, noise))) for _ in range(TRIALS)]
    return runs.count(expected) / TRIALS


def test_equal_trees_are_not_worse_at_the_first_look() -> None:
    assert verdict([1.0] * LOOKS[0]) is Verdict.NOT_WORSE


def test_a_tree_that_is_ten_percent_worse_is_worse_at_the_first_look() -> None:
    assert verdict([1.1] * LOOKS[0]) is Verdict.WORSE


def test_fewer_rounds_than_the_first_look_decide_nothing() -> None:
    assert verdict([1.1] * 7) is Verdict.UNDECIDED


def test_a_better_tree_is_not_worse() -> None:
    assert share(Verdict.NOT_WORSE, ratio=0.9, noise=0.05) == 1


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_noise_does_not_hide_that_trees_are_equal(noise: float) -> None:
    assert share(Verdict.NOT_WORSE, ratio=1.0, noise=noise) >= 0.95


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_noise_does_not_hide_that_a_tree_is_ten_percent_worse(noise: float) -> None:
    assert share(Verdict.WORSE, ratio=1.1, noise=noise) >= 0.85
    assert share(Verdict.NOT_WORSE, ratio=1.1, noise=noise) <= 0.01


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_equal_trees_are_never_called_worse(noise: float) -> None:
    assert share(Verdict.WORSE, ratio=1.0, noise=noise) <= 0.01


def test_much_noise_leaves_a_small_loss_undecided() -> None:
    assert share(Verdict.UNDECIDED, ratio=1.04, noise=0.2) >= 0.8


def test_single_slow_turns_change_nothing() -> None:
    quiet = [1.0, 1.01, 0.99] * 6
    assert verdict([*quiet, 4.0, 9.0]) is Verdict.NOT_WORSE


def test_the_interval_leaves_out_the_same_number_of_values_on_both_sides() -> None:
    # binomial(10, 1/2): one value or none below the median has the probability 11/1024, none 1/1024
    values = [float(value) for value in range(10)]
    assert interval(values, error=0.022) == Interval(1.0, 8.0)
    assert interval(values, error=0.021) == Interval(0.0, 9.0)
    assert interval(values, error=0.0019) == Interval(-math.inf, math.inf)


def test_one_worse_figure_decides_and_an_undecided_one_leaves_it_open() -> None:
    assert overall([Verdict.NOT_WORSE, Verdict.UNDECIDED, Verdict.WORSE]) is Verdict.WORSE
    assert overall([Verdict.NOT_WORSE, Verdict.UNDECIDED]) is Verdict.UNDECIDED
    assert overall([Verdict.NOT_WORSE, Verdict.NOT_WORSE]) is Verdict.NOT_WORSE

"""Decides from a series of ratios whether the newer tree is worse than the older one.

Each ratio compares two neighbouring turns, so a machine whose speed drifts changes both of its sides. The median of the
ratios has a confidence interval by the sign test (W. J. Conover, Practical Nonparametric Statistics, 3.2): it assumes
nothing about the noise but that it is as often above its median as below. One slow turn among many changes little.

The series is looked at several times, and each look may err. So the interval of each look is wide: with the looks
of `LOOKS`, a wrong verdict about a figure that is at the limit has a probability of 5 % at most, and one about an
equal figure, or one that is 10 % worse, is far less likely.
"""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

LIMIT: Final = 1.05  # the largest ratio that is not worse
ERROR: Final = 0.01  # of one look: the probability that its interval does not contain the median
LOOKS: Final = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224)  # rounds after which the series is looked at; at most 224


class Verdict(Enum):
    """What a series of ratios says."""

    NOT_WORSE = "not worse"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Interval(msgspec.Struct, frozen=True):
    """A confidence interval of a median."""

    low: float
    high: float


def interval(values: Sequence[float], error: float = ERROR) -> Interval:
    """The interval of the median of `values`; unbounded if they are too few for so small an error."""
    ordered = sorted(values)
    cut = _cut(len(ordered), error / 2)
    return Interval(ordered[cut - 1], ordered[-cut]) if cut else Interval(-math.inf, math.inf)


def verdict(ratios: Sequence[float]) -> Verdict:
    """Whether the median of the ratios newer/older is above `LIMIT`, where a larger figure is worse."""
    found = interval(ratios)
    if found.high <= LIMIT:
        return Verdict.NOT_WORSE
    return Verdict.WORSE if found.low > LIMIT else Verdict.UNDECIDED


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict about all figures: one that is worse decides."""
    for first in (Verdict.WORSE, Verdict.UNDECIDED):
        if first in verdicts:
            return first
    return Verdict.NOT_WORSE


def _cut(count: int, error: float) -> int:
    """How many values can be left out on one side, and one more: 0 if the outermost one is not far enough.

    Of `count` values, the number below the median is binomial with the probability 1/2.
    """
    cut, below = 0, 0.0
    while (below := below + math.comb(count, cut) / 2**count) <= error:
        cut += 1
    return cut

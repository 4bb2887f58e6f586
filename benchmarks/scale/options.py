"""The options of each part of the run."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

_Point = TypeVar("_Point")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        rounds: turns of each point, where points take turns.
        seconds: length of one measurement.
        only: other points are left out of the parts that have one of these; empty: none is left out.
    """

    rounds: int
    seconds: float
    only: tuple[int, ...] = ()

    def points(self, counts: Sequence[int]) -> list[int]:
        """The points that are measured."""
        return [count for count in counts if count in self.only] or [*counts]

    def turns(self, points: Sequence[_Point]) -> list[list[_Point]]:
        """The points in each round, in an order that changes."""
        return [[*points[:: 1 if number % 2 == 0 else -1]] for number in range(self.rounds)]

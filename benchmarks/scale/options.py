"""What each part of the run is told."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

_Point = TypeVar("_Point")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        rounds: turns of each point, where points take turns.
        seconds: length of one measurement.
        at_most: points above this number are left out; None: none is.
    """

    rounds: int
    seconds: float
    at_most: int | None = None

    def points(self, counts: Sequence[int]) -> list[int]:
        """The points that are measured: at least the first."""
        return [count for count in counts if self.at_most is None or count <= self.at_most] or [*counts[:1]]

    def turns(self, points: Sequence[_Point]) -> list[list[_Point]]:
        """The points in each round, in an order that changes."""
        return [[*points[:: 1 if number % 2 == 0 else -1]] for number in range(self.rounds)]

"""A measured curve: the figures of each point, their ratio to the first point, and the points where it bends."""

import itertools
import statistics
from collections.abc import Mapping
from typing import Final

import msgspec

BEND: Final = 1.25  # a cost that changes by this factor from one point to the next, in either direction, is a bend


class Column(msgspec.Struct, frozen=True):
    """A column of a curve.

    Attributes:
        name: with its unit.
        digits: decimals in the table.
        is_cost: whether it is the cost of one unit of work, which would be the same at all points of a flat curve. Its
            ratios are printed, and its bends are marked.
    """

    name: str
    digits: int = 0
    is_cost: bool = False


class Curve(msgspec.Struct):
    """The figures of one part of the run.

    Attributes:
        parameter: what changes from point to point.
        is_ordered: whether the points are values of one quantity, so that a curve can bend; else they are compared.
        points: by the value of the parameter: for each column the figures of all rounds, of one, or of none.
    """

    title: str
    parameter: str
    columns: tuple[Column, ...]
    is_ordered: bool = True
    points: dict[str, dict[str, list[float]]] = {}

    def add(self, point: str, figures: Mapping[str, float | None]) -> None:
        """Add figures of one round to a point, without those that are None.

        The table has the points in the order in which they were first added.
        """
        of_point = self.points.setdefault(point, {})
        known = {column.name for column in self.columns}
        for name, value in figures.items():
            if name not in known:
                raise ValueError(f"{self.title}: there is no column {name!r}")
            if value is not None:
                of_point.setdefault(name, []).append(value)

    def median(self, point: str, column: Column) -> float | None:
        """The median over the rounds; None if the point does not have this figure."""
        values = self.points[point].get(column.name)
        return statistics.median(values) if values else None

    def ratio(self, point: str, column: Column) -> float | None:
        """The figure divided by that of the first point that has it: the median of the ratios within a round."""
        base = next((name for name in self.points if self.points[name].get(column.name)), point)
        return self._quotient(point, base, column)

    def bends(self, column: Column) -> list[str]:
        """The points at which a cost is `BEND` times that of the point before, or more, or that much less."""
        if not column.is_cost or not self.is_ordered:
            return []
        names = [name for name in self.points if self.points[name].get(column.name)]
        steps = {name: self._quotient(name, before, column) or 1 for before, name in itertools.pairwise(names)}
        return [name for name, step in steps.items() if step >= BEND or step <= 1 / BEND]

    def _quotient(self, point: str, base: str, column: Column) -> float | None:
        above, below = self.points[point].get(column.name), self.points[base].get(column.name)
        if not above or not below:
            return None
        if len(above) != len(below):
            above, below = [statistics.median(above)], [statistics.median(below)]
        quotients = [one / other for one, other in zip(above, below, strict=True) if other]
        return statistics.median(quotients) if quotients else None

"""The report of `make bench-scale`: a table in Markdown for each curve, and JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from scale.curve import BEND, Column, Curve

MARK: Final = "^"
LEGEND: Final = (
    f"In brackets: the ratio to the first point. {MARK} marks a bend: a cost that is {BEND:g} times that of the point "
    f"before, or more, or at most {1 / BEND:g} times."
)


def markdown(curve: Curve) -> str:
    """The title and the table of one curve; a bend is marked."""
    columns = [column for column in curve.columns if any(column.name in figures for figures in curve.points.values())]
    bends = {column.name: curve.bends(column) for column in columns}
    lines = [f"## {curve.title}", "", _line([curve.parameter, *(column.name for column in columns)])]
    lines.append("|" + " --- |" * (len(columns) + 1))
    for point in curve.points:
        cells = [_cell(curve, point, column) + MARK * (point in bends[column.name]) for column in columns]
        lines.append(_line([point, *cells]))
    return "\n".join(lines)


def write(file: Path, heading: str, curves: Sequence[Curve]) -> None:
    """Write all figures as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode({"heading": heading, "curves": curves})))


def _cell(curve: Curve, point: str, column: Column) -> str:
    value = curve.median(point, column)
    if value is None:
        return "-"
    text = f"{value:,.{column.digits}f}"
    ratio = curve.ratio(point, column) if column.is_cost else None
    return text if ratio is None or point == next(iter(curve.points)) else f"{text} ({ratio:.2f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"

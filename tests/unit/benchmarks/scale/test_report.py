"""The report of `make bench-scale`: a table of each curve, and JSON."""

import json
from pathlib import Path

from scale.curve import Column, Curve
from scale.report import markdown, write

COST = Column("CPU", 1, is_cost=True)
RATE = Column("calls/s")


def curve() -> Curve:
    """Two points without a measured memory."""
    made = Curve("Tasks", "tasks", (RATE, COST, Column("memory")))
    made.add("1", {RATE.name: 2000, COST.name: 10})
    made.add("1,000", {COST.name: 25})
    return made


def test_a_table_has_ratios_bends_and_dashes_and_no_column_without_figures() -> None:
    assert markdown(curve()).splitlines() == [
        "## Tasks",
        "",
        "| tasks | calls/s | CPU |",
        "| --- | --- | --- |",
        "| 1 | 2,000 | 10.0 |",
        "| 1,000 | - | 25.0 (2.50)^ |",
    ]


def test_all_figures_are_written_as_json(tmp_path: Path) -> None:
    write(tmp_path / "build" / "scale.json", "heading", [curve()])
    written = json.loads((tmp_path / "build" / "scale.json").read_text())
    assert written["heading"] == "heading"
    assert written["curves"][0]["points"] == {"1": {"calls/s": [2000], "CPU": [10]}, "1,000": {"CPU": [25]}}

"""The figures of both trees, round by round, and their table."""

import statistics
from typing import Final

import msgspec
from guard.trees import KINDS, Tree
from guard.verdict import Verdict, interval, overall, verdict

CLIENT_CPU: Final = "client, CPU us per call"
WORKER_CPU: Final = "worker, CPU us per call"
P50: Final = "p50 us, one in flight"
COLUMNS: Final = ("figure", "base", "tree", "tree/base", "interval", "verdict")


class Both(msgspec.Struct):
    """One figure of the older and of this tree, in microseconds; one entry for each round."""

    base: list[float] = []
    tree: list[float] = []

    @property
    def ratios(self) -> list[float]:
        """this/older, of each round."""
        return [tree / base for base, tree in zip(self.base, self.tree, strict=True)]


class Series:
    """All figures, by name."""

    def __init__(self) -> None:
        self.figures = {f"{kind}: {name}": Both() for kind in KINDS for name in (CLIENT_CPU, WORKER_CPU, P50)}
        self.verdicts = dict.fromkeys(self.figures, Verdict.UNDECIDED)

    @property
    def open(self) -> list[str]:
        """The figures that are not decided."""
        return [name for name, found in self.verdicts.items() if found is Verdict.UNDECIDED]

    def add(self, base: Tree, tree: Tree, *, seconds: float, in_flight: int, is_reversed: bool) -> None:
        """Measure one round of the open figures: each turn of a tree next to the same one of the other tree."""
        order = (tree, base) if is_reversed else (base, tree)
        for kind in KINDS:
            of_client, of_worker, p50 = (f"{kind}: {name}" for name in (CLIENT_CPU, WORKER_CPU, P50))
            if of_client in self.open or of_worker in self.open:
                cpu = {one: _cpu(one, kind, seconds, in_flight) for one in order}
                self._append(of_client, cpu[base][0], cpu[tree][0])
                self._append(of_worker, cpu[base][1], cpu[tree][1])
            if p50 in self.open:
                latency = {one: one.clients[kind].order(seconds, 1)["p50"] for one in order}
                self._append(p50, latency[base], latency[tree])

    def look(self) -> Verdict:
        """Decide about the open figures by the rounds so far; returns the verdict about all."""
        for name in self.open:
            self.verdicts[name] = verdict(self.figures[name].ratios)
        return overall([*self.verdicts.values()])

    def _append(self, name: str, base: float, tree: float) -> None:
        self.figures[name].base.append(base * 1e6)
        self.figures[name].tree.append(tree * 1e6)


def report(series: Series) -> str:
    """A Markdown table: medians, the median of the ratios with its interval, the verdict."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for name, found in series.verdicts.items():
        both = series.figures[name]
        bounds = interval(both.ratios)
        cells = (
            name,
            f"{statistics.median(both.base):.0f}",
            f"{statistics.median(both.tree):.0f}",
            f"{statistics.median(both.ratios):.3f}",
            f"{bounds.low:.3f} to {bounds.high:.3f}",
            f"{found.value}, {len(both.base)} rounds",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cpu(tree: Tree, kind: str, seconds: float, in_flight: int) -> tuple[float, float]:
    """CPU seconds per call: of the client, of the worker."""
    before = tree.worker.cpu()
    measured = tree.clients[kind].order(seconds, in_flight)
    return measured["cpu"] / measured["calls"], (tree.worker.cpu() - before) / measured["calls"]

"""Formats the table of both systems, and the goals."""

import statistics
from collections.abc import Callable
from typing import Final

import msgspec
from process import Memory


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one round.

    Attributes:
        calls_per_second: with many calls in flight.
        client_cpu, worker_cpu: CPU seconds per call, with many calls in flight.
        p50, p99: latency in seconds, with one call in flight.
    """

    calls_per_second: float
    client_cpu: float
    worker_cpu: float
    p50: float
    p99: float


class Goal(msgspec.Struct, frozen=True):
    """A limit for one measured value."""

    name: str
    value: float
    at_least: float = float("-inf")
    at_most: float = float("inf")

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_most == float("inf") else f"<= {self.at_most:g}"
        return f"{'pass' if self.is_met else 'FAIL'}  {self.name}: {self.value:.2f} (goal {bound})"

    @property
    def is_met(self) -> bool:
        """Whether the value is within the limit."""
        return self.at_least <= self.value <= self.at_most


CALLS_PER_SECOND: Final = "calls per second, many in flight"
P50: Final = "p50 us, one in flight"

_FIGURES: Final[dict[str, Callable[[Figures], float]]] = {
    CALLS_PER_SECOND: lambda figures: figures.calls_per_second,
    "  client, CPU us per call": lambda figures: figures.client_cpu * 1e6,
    "  worker, CPU us per call": lambda figures: figures.worker_cpu * 1e6,
    P50: lambda figures: figures.p50 * 1e6,
    "p99 us, one in flight": lambda figures: figures.p99 * 1e6,
}
_MEMORY: Final[dict[str, Callable[[Memory], float]]] = {
    "idle worker process, RSS MiB": lambda memory: memory.rss,
    "  its share (PSS)": lambda memory: memory.pss,
    "  its own pages (USS)": lambda memory: memory.uss,
}


def table(floor: list[Figures], crew: list[Figures], floor_memory: Memory, crew_memory: Memory) -> str:
    """A table of both systems and their ratio, one line per figure."""
    lines = [f"{'':32}{'floor':>10}{'crew':>10}{'crew/floor':>12}"]
    for name, of in _FIGURES.items():
        medians = [statistics.median(map(of, rounds)) for rounds in (floor, crew)]
        lines.append(f"{name:32}{medians[0]:10.0f}{medians[1]:10.0f}{ratio(floor, crew, name):12.2f}")
    for name, of_memory in _MEMORY.items():
        both = of_memory(floor_memory), of_memory(crew_memory)
        lines.append(f"{name:32}{both[0]:10.1f}{both[1]:10.1f}{both[1] / both[0]:12.2f}")
    return "\n".join(lines)


def ratio(floor: list[Figures], crew: list[Figures], name: str) -> float:
    """The median of the ratio crew/floor over all rounds."""
    of = _FIGURES[name]
    return statistics.median(of(ours) / of(theirs) for theirs, ours in zip(floor, crew, strict=True))

"""Formats the table of the compared systems, and the goals."""

import statistics
from collections.abc import Callable, Sequence
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

LABEL: Final = 32  # columns
WIDTH: Final = 12
WIDE: Final = 22

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


Rounds = dict[str, list[Figures]]
Pair = tuple[str, str]


def table(figures: Rounds, memory: dict[str, Memory], ratios: Sequence[Pair]) -> str:
    """A table of all systems, one line per figure, then of the ratios between two of them.

    Args:
        figures: of each system, by its name; one entry for each round.
        memory: of a worker of each system.
        ratios: pairs of names.
    """
    columns = [f"{first}/{second}" for first, second in ratios]
    lines = [f"{'':{LABEL}}" + "".join(f"{name:>{WIDTH}}" for name in figures)]
    below = [f"{'':{LABEL}}" + "".join(f"{name:>{WIDE}}" for name in columns)]
    for name, of in _FIGURES.items():
        medians = [statistics.median(map(of, rounds)) for rounds in figures.values()]
        lines.append(f"{name:{LABEL}}" + "".join(f"{median:{WIDTH}.0f}" for median in medians))
        below.append(f"{name:{LABEL}}" + "".join(f"{ratio(figures, pair, name):{WIDE}.2f}" for pair in ratios))
    for name, of_memory in _MEMORY.items():
        lines.append(f"{name:{LABEL}}" + "".join(f"{of_memory(memory[one]):{WIDTH}.1f}" for one in figures))
        quotients = [of_memory(memory[first]) / of_memory(memory[second]) for first, second in ratios]
        below.append(f"{name:{LABEL}}" + "".join(f"{quotient:{WIDE}.2f}" for quotient in quotients))
    return "\n".join([*lines, "", *below])


def ratio(figures: Rounds, pair: Pair, name: str) -> float:
    """The median of the ratio of the pair's first system to its second one, over all rounds."""
    of = _FIGURES[name]
    first, second = (figures[system] for system in pair)
    return statistics.median(of(one) / of(other) for one, other in zip(first, second, strict=True))

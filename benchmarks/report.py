"""The table of both systems, and the goals."""

from collections.abc import Callable

import msgspec
from process import Memory


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one round, or the median of all, came to.

    Attributes:
        calls_per_second: with many in flight.
        client_cpu, worker_cpu: CPU seconds a call, with many in flight.
        p50, p99: latency in seconds, with one in flight.
    """

    calls_per_second: float
    client_cpu: float
    worker_cpu: float
    p50: float
    p99: float


class Goal(msgspec.Struct, frozen=True):
    """A bound on one figure."""

    name: str
    value: float
    at_least: float = float("-inf")
    at_most: float = float("inf")

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_most == float("inf") else f"<= {self.at_most:g}"
        return f"{'pass' if self.is_met else 'FAIL'}  {self.name}: {self.value:.2f} (goal {bound})"

    @property
    def is_met(self) -> bool:
        """Whether it is within the bound."""
        return self.at_least <= self.value <= self.at_most


_FIGURES: dict[str, Callable[[Figures], float]] = {
    "calls a second, many in flight": lambda figures: figures.calls_per_second,
    "  client, CPU us a call": lambda figures: figures.client_cpu * 1e6,
    "  worker, CPU us a call": lambda figures: figures.worker_cpu * 1e6,
    "p50 us, one in flight": lambda figures: figures.p50 * 1e6,
    "p99 us, one in flight": lambda figures: figures.p99 * 1e6,
}
_MEMORY: dict[str, Callable[[Memory], float]] = {
    "idle worker process, RSS MiB": lambda memory: memory.rss,
    "  its share (PSS)": lambda memory: memory.pss,
    "  its own pages (USS)": lambda memory: memory.uss,
}


def table(floor: Figures, crew: Figures, floor_memory: Memory, crew_memory: Memory) -> str:
    """Both systems and their ratio, a line a figure."""
    lines = [f"{'':32}{'floor':>10}{'crew':>10}{'crew/floor':>12}"]
    lines += [_line(name, of(floor), of(crew), "10.0f") for name, of in _FIGURES.items()]
    lines += [_line(name, of(floor_memory), of(crew_memory), "10.1f") for name, of in _MEMORY.items()]
    return "\n".join(lines)


def _line(name: str, floor: float, crew: float, form: str) -> str:
    return f"{name:32}{floor:{form}}{crew:{form}}{crew / floor:12.2f}"

"""The report of `make bench`: Markdown, and JSON."""

import statistics
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from peers import PEERS
from suite.figures import MANY, PARALLEL, Single, Turn
from suite.systems import CREW, CREW_PERSISTENT, PIKA, PIKA_PERSISTENT

Of = Callable[[Turn], float | None]
OfSingle = Callable[[Single], float | None]

RATE: Final = f"calls/s, {MANY} in flight"
P50: Final = "p50, one in flight, ms"
CPU: Final = "CPU-s of client and worker per 1,000 calls"
IN_PARALLEL: Final = f"{PARALLEL} calls in parallel, ms"
CALLED: Final = "Tornado handler with one call, requests/s"
MIXED: Final = "the same with the system's mixin"
BARE: Final = "the same without a call"
PSS: Final = "idle worker, all its processes, PSS MiB"
LATEST: Final = "burst, latest reply / median of the last tenth"

TURN_ROWS: Final[dict[str, tuple[Of, int]]] = {  # with the number of decimals
    RATE: (lambda turn: turn.rate, 0),
    P50: (lambda turn: turn.p50 * 1e3, 2),
    CPU: (lambda turn: turn.cpu * 1e3, 3),
    "CPU-s of the broker or server per 1,000 calls": (lambda turn: turn.server_cpu * 1e3, 3),
    IN_PARALLEL: (lambda turn: turn.parallel * 1e3, 1),
    CALLED: (lambda turn: turn.called, 0),
    MIXED: (lambda turn: turn.mixed, 0),
    BARE: (lambda turn: turn.bare, 0),
}
SINGLE_ROWS: Final[dict[str, tuple[OfSingle, int]]] = {
    PSS: (lambda single: single.pss, 1),
    "burst, calls/s": (lambda single: getattr(single.burst, "rate", None), 0),
    LATEST: (lambda single: getattr(single.burst, "latest", None), 2),
    "burst, the client grows by the second one, MiB": (lambda single: getattr(single.burst, "growth", None), 1),
}
AIO_PIKA, CELERY, GRPC = (
    next(peer.name for peer in PEERS if part in peer.name) for part in ("aio-pika", "Celery", "grpc")
)


class Results(msgspec.Struct):
    """All figures of a run, by the name of the system; `burst` is the number of calls at once."""

    burst: int
    turns: dict[str, list[Turn]] = {}
    singles: dict[str, Single] = {}


class Ratio(msgspec.Struct, frozen=True):
    """A goal: a row of one system divided by a row of another one, or of the same."""

    system: str
    row: str
    other: str
    other_row: str
    goal: float
    is_at_least: bool

    def values(self, results: Results) -> list[float]:
        """The ratio in each round; empty if one of the systems is not measured."""
        rounds = zip(results.turns.get(self.system, ()), results.turns.get(self.other, ()), strict=False)
        of, of_other = TURN_ROWS[self.row][0], TURN_ROWS[self.other_row][0]
        return [(of(one) or 0) / (of_other(other) or 1) for one, other in rounds]


def _ratio(system: str, row: str, other: str, *, at_least: float = 0, at_most: float = 0) -> Ratio:
    return Ratio(system, row, other, row, at_least or at_most, bool(at_least))


GOALS: Final = (
    _ratio(CREW, RATE, PIKA, at_least=1.5),
    _ratio(CREW, RATE, AIO_PIKA, at_least=7),
    _ratio(CREW, RATE, CELERY, at_least=12),
    _ratio(CREW, RATE, GRPC, at_least=2),
    _ratio(CREW_PERSISTENT, RATE, PIKA_PERSISTENT, at_least=1.5),
    _ratio(CREW_PERSISTENT, RATE, PIKA, at_least=1),
    _ratio(CREW, P50, PIKA, at_most=1),
    _ratio(CREW_PERSISTENT, P50, PIKA_PERSISTENT, at_most=1),
    _ratio(CREW, CPU, PIKA, at_most=0.65),
    _ratio(CREW, IN_PARALLEL, PIKA, at_most=1.1),
    _ratio(CREW_PERSISTENT, IN_PARALLEL, PIKA_PERSISTENT, at_most=1.1),
    Ratio(CREW, CALLED, CREW, BARE, 0.65, is_at_least=True),
    Ratio(CREW_PERSISTENT, CALLED, CREW_PERSISTENT, BARE, 0.65, is_at_least=True),
    Ratio(CREW, MIXED, CREW, CALLED, 0.96, is_at_least=True),
)
SINGLE_GOALS: Final = ((PSS, 26.0), (LATEST, 2.0))  # at most; of crew's default calls


def markdown(results: Results, heading: str) -> str:
    """The heading, the table of all systems, and the table of goals."""
    rounds = max(map(len, results.turns.values()), default=0)
    of = f"Medians of {rounds} rounds; a burst has {results.burst:,} calls at once."
    return f"{heading} {of}\n\n{_systems(results)}\n\n{_goals(results)}"


def _systems(results: Results) -> str:
    """Medians over the rounds, a column for each system."""
    lines = [_line(["", *results.turns]), _rule(len(results.turns) + 1)]
    for row, (of, digits) in TURN_ROWS.items():
        values = [[of(turn) for turn in turns] for turns in results.turns.values()]
        lines.append(_line([row, *(_median([one for one in some if one is not None], digits) for some in values)]))
    for row, (of_single, digits) in SINGLE_ROWS.items():
        singles = [results.singles.get(name) for name in results.turns]
        figures = [of_single(one) if one else None for one in singles]
        lines.append(_line([row, *(_median([] if one is None else [one], digits) for one in figures)]))
    return "\n".join(lines)


def _goals(results: Results) -> str:
    """Medians of the ratios within a round, with the smallest and the largest one."""
    lines = [_line(["goal", "at", "median", "smallest to largest", "met"]), _rule(5)]
    for goal in GOALS:
        if values := goal.values(results):
            other = goal.other if goal.other_row == goal.row else goal.other_row
            name = f"{goal.row}: {goal.system} / {other}"
            lines.append(_goal(name, values, goal.goal, is_at_least=goal.is_at_least))
    if single := results.singles.get(CREW_PERSISTENT):
        lines += [_goal(row, [SINGLE_ROWS[row][0](single) or 0], most, is_at_least=False) for row, most in SINGLE_GOALS]
    return "\n".join(lines)


def _goal(name: str, values: Sequence[float], goal: float, *, is_at_least: bool) -> str:
    median = statistics.median(values)
    is_met = median >= goal if is_at_least else median <= goal
    spread = f"{min(values):.2f} to {max(values):.2f}"
    bound = f"{'>=' if is_at_least else '<='} {goal:g}"
    return _line([name, bound, f"{median:.2f}", spread, "yes" if is_met else "no"])


def _median(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|" + " --- |" * columns

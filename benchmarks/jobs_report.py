"""Prints the table of the two ways to submit jobs, and the goals."""

import statistics
from collections.abc import Callable
from typing import Final

import msgspec
from report import Goal


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one way in one round.

    Attributes:
        rate: jobs per second, from the first submit to the end of the last job.
        cpu: CPU seconds of the gateway per job.
        submits: seconds of each submit at full speed.
        alone: seconds of each submit, one at a time.
        wake_ups: seconds from the end of a job until each waiting client has its result, by the number of clients.
    """

    rate: float
    cpu: float
    submits: list[float]
    alone: list[float]
    wake_ups: dict[int, list[float]]


Of = Callable[[Turn], list[float]]
Ways = dict[str, list[Turn]]

LABEL: Final = 44  # columns
SHARES: Final = (0.50, 0.99)


def report(library: list[Turn], http: list[Turn]) -> list[Goal]:
    """Print the table; return the goals."""
    ways = {"client.submit": library, "HTTP": http}
    rates = [statistics.median(turn.rate for turn in turns) for turns in ways.values()]
    ratio = statistics.median(ours.rate / theirs.rate for theirs, ours in zip(library, http, strict=True))
    print(" " * LABEL + "".join(f"{name:>15}" for name in ways) + f"{'HTTP/submit':>14}")
    print(_line("jobs submitted and finished per second", rates, digits=0) + f"{ratio:14.2f}")
    cpu = [statistics.median(turn.cpu for turn in turns) * 1e6 for turns in ways.values()]
    print(_line("  CPU of the gateway, us per job", cpu, digits=0) + f"{cpu[1] / cpu[0]:14.2f}")
    _print_latencies("submit, at full speed", ways, lambda turn: turn.submits)
    _print_latencies("submit, one at a time", ways, lambda turn: turn.alone)
    goals = [
        Goal("jobs per second by client.submit", rates[0], at_least=600),
        Goal("jobs per second over HTTP", rates[1], at_least=300),
    ]
    return goals + [_waiters(ways, waiters) for waiters in library[0].wake_ups]


def _waiters(ways: Ways, waiters: int) -> Goal:
    def late(turn: Turn) -> list[float]:
        return turn.wake_ups[waiters]

    _print_latencies(f"end of job to {waiters} waiting clients", ways, late)
    name = f"p50 of {waiters} waiting for a /response/, ms after the job's end"
    return Goal(name, _latency(ways["HTTP"], late, SHARES[0]), at_most=50)


def _print_latencies(name: str, ways: Ways, of: Of) -> None:
    for share in SHARES:
        print(_line(f"{name}, ms, p{share * 100:.0f}", [_latency(turns, of, share) for turns in ways.values()]))


def _line(name: str, values: list[float], *, digits: int = 1) -> str:
    return f"{name:{LABEL}}" + "".join(f"{value:15.{digits}f}" for value in values)


def _latency(turns: list[Turn], of: Of, share: float) -> float:
    """The percentile `share` of all values, in milliseconds."""
    values = sorted(value for turn in turns for value in of(turn))
    return values[int(len(values) * share)] * 1e3

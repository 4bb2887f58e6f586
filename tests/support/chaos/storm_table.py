"""What the storm has shown: fault × occurrences × calls in flight × lost × doubled × worst delay."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.support.chaos.storm import Flight
from tests.support.chaos.storm_faults import FAULTS

LATE: Final = 4.0  # seconds after the end of a fault in which a call may still be run a second time for it


class Strike(msgspec.Struct, kw_only=True):
    """One fault that has struck. Times are time.monotonic().

    Attributes:
        fault: its name.
        recovered: seconds from its end until the first call that was made then has its value.
    """

    fault: str
    began: float
    ended: float = 0.0
    recovered: float = 0.0


class Row(msgspec.Struct, kw_only=True):
    """What became of the calls that all strikes of one fault have met.

    Attributes:
        dropped: accepted calls that have expired, as the broker has deleted what carried them.
        lost: accepted calls that have no value though nothing of theirs was deleted.
        doubled: calls that were run once more.
        worst_delay: seconds from the strike, or from the call where that is later, until its end.
        worst_recovery: seconds from the end of the fault until a call had its value.
    """

    fault: str
    occurrences: int = 0
    in_flight: int = 0
    dropped: int = 0
    lost: int = 0
    doubled: int = 0
    worst_delay: float = 0.0
    worst_recovery: float = 0.0


def runs_of(record: Path) -> dict[str, list[float]]:
    """Call id -> when its runs have begun, in order."""
    runs: dict[str, list[float]] = defaultdict(list)
    for line in record.read_text().splitlines():
        id, _, moment = line.split()
        runs[id].append(float(moment))
    return {id: sorted(moments) for id, moments in runs.items()}


def table(strikes: Sequence[Strike], flights: Sequence[Flight], runs: dict[str, list[float]]) -> list[Row]:
    """One row a fault."""
    rows: dict[str, Row] = {}
    for strike in strikes:
        row = rows.setdefault(strike.fault, Row(fault=strike.fault))
        met = [flight for flight in flights if flight.is_in_flight(strike.began)]
        valueless = [flight for flight in met if flight.error is not None and not flight.was_refused]
        row.occurrences += 1
        row.in_flight += len(met)
        row.dropped += len(valueless) if FAULTS[strike.fault].may_drop else 0
        row.lost += (
            0 if FAULTS[strike.fault].may_drop else len([one for one in valueless if not _dropped(one, strikes)])
        )
        row.doubled += sum(
            _blamed(second, runs[one.id], strikes) is strike for one in flights for second in _more(one, runs)
        )
        row.worst_delay = max([row.worst_delay, *(one.ended - strike.began for one in met if one.error is None)])
        row.worst_recovery = max(row.worst_recovery, strike.recovered)
    return sorted(rows.values(), key=lambda row: list(FAULTS).index(row.fault))


def unexplained(strikes: Sequence[Strike], flights: Iterable[Flight], runs: dict[str, list[float]]) -> list[str]:
    """Runs of a call beyond the first for which no fault can be blamed."""
    return [
        f"call {one.id} ran at {runs[one.id]}"
        for one in flights
        for second in _more(one, runs)
        if _blamed(second, runs[one.id], strikes) is None
    ]


def shown(rows: Sequence[Row]) -> str:
    """The table as text."""
    head = (
        f"{'fault':24}{'times':>6}{'in flight':>11}{'dropped':>9}{'lost':>6}{'doubled':>9}{'delay s':>9}{'back s':>8}"
    )
    lines = [
        f"{row.fault:24}{row.occurrences:6}{row.in_flight:11}{row.dropped:9}{row.lost:6}{row.doubled:9}"
        f"{row.worst_delay:9.1f}{row.worst_recovery:8.2f}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def _more(flight: Flight, runs: dict[str, list[float]]) -> list[float]:
    return runs.get(flight.id, [])[1:]


def _dropped(flight: Flight, strikes: Sequence[Strike]) -> bool:
    """Whether a fault that deletes messages has met it: at some moment between its begin and its end."""
    return any(FAULTS[one.fault].may_drop and one.began < flight.ended and flight.began < one.ended for one in strikes)


def _blamed(second: float, moments: Sequence[float], strikes: Sequence[Strike]) -> Strike | None:
    """The last strike between two runs of a call that may have doubled it."""
    first = max(moment for moment in moments if moment < second)
    may = [
        one
        for one in strikes
        if FAULTS[one.fault].may_double and one.began < second and first < (one.ended or second) + LATE
    ]
    return may[-1] if may else None

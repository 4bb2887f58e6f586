"""The results of the storm test: fault × occurrences × calls in flight × lost × doubled × worst delay."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.support.chaos.storm import Flight
from tests.support.chaos.storm_faults import FAULTS

LATE: Final = 4.0  # seconds after the end of a fault in which a second run of a call counts as its consequence


class Incident(msgspec.Struct, kw_only=True):
    """One occurrence of a fault. Times are time.monotonic().

    Attributes:
        fault: name of the fault.
        recovered: seconds from its end until the first call made after it has its value.
    """

    fault: str
    began: float
    ended: float = 0.0
    recovered: float = 0.0


class Row(msgspec.Struct, kw_only=True):
    """The calls in flight during all occurrences of one fault.

    Attributes:
        dropped: accepted calls that have expired because their messages were deleted in the broker.
        lost: accepted calls without a value whose messages were not deleted.
        doubled: calls that were run twice.
        worst_delay: longest time in seconds from the start of the fault, or of the call if that is later, to its end.
        worst_recovery: longest time in seconds from the end of the fault until a call had its value.
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
    """The start times of the runs of each call, in order, by call id."""
    runs: dict[str, list[float]] = defaultdict(list)
    for line in record.read_text().splitlines():
        id, _, moment = line.split()
        runs[id].append(float(moment))
    return {id: sorted(moments) for id, moments in runs.items()}


def table(incidents: Sequence[Incident], flights: Sequence[Flight], runs: dict[str, list[float]]) -> list[Row]:
    """One row for each fault."""
    rows: dict[str, Row] = {}
    for incident in incidents:
        row = rows.setdefault(incident.fault, Row(fault=incident.fault))
        met = [flight for flight in flights if flight.is_in_flight(incident.began)]
        valueless = [flight for flight in met if flight.error is not None and not flight.was_refused]
        row.occurrences += 1
        row.in_flight += len(met)
        row.dropped += len(valueless) if FAULTS[incident.fault].may_drop else 0
        row.lost += (
            0 if FAULTS[incident.fault].may_drop else len([one for one in valueless if not _dropped(one, incidents)])
        )
        row.doubled += sum(
            _blamed(second, runs[one.id], incidents) is incident for one in flights for second in _more(one, runs)
        )
        row.worst_delay = max([row.worst_delay, *(one.ended - incident.began for one in met if one.error is None)])
        row.worst_recovery = max(row.worst_recovery, incident.recovered)
    return sorted(rows.values(), key=lambda row: list(FAULTS).index(row.fault))


def unexplained(incidents: Sequence[Incident], flights: Iterable[Flight], runs: dict[str, list[float]]) -> list[str]:
    """Second runs of calls that no fault explains."""
    return [
        f"call {one.id} ran at {runs[one.id]}"
        for one in flights
        for second in _more(one, runs)
        if _blamed(second, runs[one.id], incidents) is None
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


def _dropped(flight: Flight, incidents: Sequence[Incident]) -> bool:
    """Whether a fault that deletes messages occurred while the call was in flight."""
    return any(
        FAULTS[one.fault].may_drop and one.began < flight.ended and flight.began < one.ended for one in incidents
    )


def _blamed(second: float, moments: Sequence[float], incidents: Sequence[Incident]) -> Incident | None:
    """The last fault between two runs of a call that may have caused the second run."""
    first = max(moment for moment in moments if moment < second)
    may = [
        one
        for one in incidents
        if FAULTS[one.fault].may_double and one.began < second and first < (one.ended or second) + LATE
    ]
    return may[-1] if may else None

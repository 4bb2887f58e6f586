"""The report of `make bench`: a table of systems, and one of goals."""

import msgspec
from suite.figures import BurstFigures, Single, Turn
from suite.report import Results, markdown
from suite.systems import CREW, CREW_PERSISTENT, PIKA

TURN = Turn(rate=1000, p50=0.001, cpu=0.0002, server_cpu=0.0001, parallel=0.02, bare=1000, called=500, mixed=None)


def results() -> Results:
    """Three rounds of three systems; crew is 1.6, 2 and 3 times as fast as pika."""
    crew = [msgspec.structs.replace(TURN, rate=TURN.rate * factor, mixed=490) for factor in (3, 1.6, 2)]
    burst = BurstFigures(rate=900, latest=1.25, growth=0.5)
    return Results(
        burst=10_000,
        turns={PIKA: [TURN] * 3, CREW: crew, CREW_PERSISTENT: crew},
        singles={PIKA: Single(pss=16, burst=None), CREW: Single(pss=30, burst=burst)},
    )


def row(name: str) -> list[str]:
    """The cells of the row that begins so."""
    [line] = [line for line in markdown(results(), "heading").splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_first_table_has_the_median_of_each_system() -> None:
    assert row("calls/s, 64 in flight |") == ["1,000", "2,000", "2,000"]
    assert row("CPU-s of client and worker per 1,000 calls |") == ["0.200", "0.200", "0.200"]


def test_what_a_system_has_not_is_a_dash() -> None:
    assert row("the same with the system's mixin |") == ["-", "490", "490"]
    assert row("burst, calls/s |") == ["-", "900", "-"]


def test_a_goal_is_compared_with_the_median_of_the_ratios_within_a_round() -> None:
    assert row(f"calls/s, 64 in flight: {CREW} / {PIKA}") == [">= 1.5", "2.00", "1.60 to 3.00", "yes"]
    assert row(f"CPU-s of client and worker per 1,000 calls: {CREW} / {PIKA}")[-1] == "no"


def test_a_goal_beside_a_system_that_is_not_measured_is_left_out() -> None:
    assert "Celery" not in markdown(results(), "heading")

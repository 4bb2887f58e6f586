"""Log lines about a broker outage: few, and with the reason."""

import logging

import pytest

from crew.amqp.outage import Outage

REFUSED = "amqp://b/: connection refused"
LOST = "amqp://b/: the connection broke"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the test."""
    return Clock()


def fail(outage: Outage, clock: Clock, *, seconds: int, reason: str = REFUSED) -> None:
    """For each second, one failed attempt of each of two links."""
    for _ in range(seconds):
        outage.on_failed("w consume", reason, "retrying in 1.0 s")
        outage.on_failed("w publish", reason, "retrying in 1.0 s")
        clock.now += 1


@pytest.fixture
def outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> Outage:
    """An Outage that two links share."""
    caplog.set_level(logging.INFO)
    return Outage(clock=clock)


def test_an_outage_logs_one_line_every_30_seconds_for_all_links(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.on_failed("w consume", LOST, "retrying in 0.1 s")
    fail(outage, clock, seconds=180)
    outage.on_ready("w publish")
    assert caplog.messages[-1].startswith("still no connection")
    outage.on_ready("w consume")
    assert len(caplog.records) <= 9
    assert caplog.messages[0] == f"no connection to the broker: {LOST}; retrying in 0.1 s connection='w consume'"
    assert caplog.messages[1].endswith(f"{REFUSED}; retrying in 1.0 s connection='w consume'")
    assert caplog.messages[2] == (
        f"still no connection to the broker after 30 s, 62 attempts: {REFUSED}; retrying in 1.0 s "
        "connection='w consume'"
    )
    assert caplog.messages[-1] == "connected to the broker after 180.0 s, 361 attempts connection='w consume'"
    assert [record.levelno for record in caplog.records[-2:]] == [logging.WARNING, logging.INFO]


def test_a_new_reason_is_logged_at_once(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fail(outage, clock, seconds=2)
    fail(outage, clock, seconds=2, reason="amqp://b/: user name or password refused")
    fail(outage, clock, seconds=2)
    assert len(caplog.records) == 2
    assert "password refused" in caplog.messages[1]


def test_reasons_that_always_differ_do_not_fill_the_log(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(60):
        fail(outage, clock, seconds=1, reason=f"refused over {second}")
    assert len(caplog.records) <= 12


def test_the_next_outage_is_logged_from_its_start(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.on_ready("w consume")
    assert not caplog.records
    for _ in range(2):
        clock.now += 60
        caplog.clear()
        outage.on_failed("w consume", LOST, "retrying in 0.1 s")
        clock.now += 1
        outage.on_ready("w consume")
        assert caplog.messages == [
            f"no connection to the broker: {LOST}; retrying in 0.1 s connection='w consume'",
            "connected to the broker again after 1.0 s, 1 attempt connection='w consume'",
        ]


def test_a_broker_that_accepts_and_drops_connections_does_not_fill_the_log(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(60):
        outage.on_failed("w consume", LOST, "retrying in 1.0 s")
        clock.now += 0.5
        outage.on_ready("w consume")
        clock.now += 0.5
    assert len(caplog.records) <= 6


def test_a_closed_link_does_not_prolong_the_outage(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(outage, clock, seconds=1)
    outage.on_closed("w publish")
    outage.on_ready("w consume")
    assert "connected to the broker after" in caplog.messages[-1]

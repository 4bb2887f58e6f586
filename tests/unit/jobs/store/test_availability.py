"""Log lines for outages of the job store."""

import logging

import pytest

from crew.errors import ConnectionError
from crew.jobs.store.availability import Availability

AWAY = ConnectionError("the job store x cannot be used: gone", missing="store")


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Availability:
    store = Availability(clock.monotonic)
    store.is_logged = True
    return store


def test_an_outage_logs_one_line_when_it_begins_and_one_when_it_ends(
    store: Availability, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(30):
        store.failed("read", AWAY)
        store.failed("write", AWAY)
        clock.now += 1
    store.succeeded("read")
    errors = [store.error]  # no write has succeeded since
    store.succeeded("write")
    assert [*errors, store.error] == [AWAY, None]
    assert [record.getMessage() for record in caplog.records] == [
        "job store unavailable, retrying until it is back: the job store x cannot be used: gone",
        "job store available again after 30.0 s",
    ]


def test_a_store_that_fails_at_times_has_one_outage(
    store: Availability, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        store.failed("read", AWAY)
        clock.now += 0.3
        store.succeeded("read")
    assert len(caplog.records) == 1


def test_a_command_logs_no_outage_as_it_reports_the_error(caplog: pytest.LogCaptureFixture) -> None:
    store = Availability()
    store.failed("read", AWAY)
    assert store.error is AWAY
    assert not caplog.records

"""What is made of a comparison of clocks."""

import logging

import pytest

from crew.amqp.broker_clock import BrokerClock
from crew.protocol.clock import IN_STEP, ClockOffset


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> BrokerClock:
    """One that has not compared anything."""
    caplog.set_level(logging.INFO)
    return BrokerClock()


def measure(clock: BrokerClock, offset: float, *, took: float = 0.0) -> None:
    """A comparison that says so, to a second and the time that it took."""
    clock._learn(ClockOffset(offset - 0.5 - took, offset + 0.5 + took))


@pytest.mark.parametrize("offset", [0.0, 1.9, -1.9])
def test_clocks_that_differ_by_little_are_in_step(
    clock: BrokerClock, caplog: pytest.LogCaptureFixture, offset: float
) -> None:
    measure(clock, offset)
    assert clock.offset is IN_STEP
    assert not caplog.records


def test_a_difference_is_logged_once_and_again_when_it_changes(
    clock: BrokerClock, caplog: pytest.LogCaptureFixture
) -> None:
    for offset in (-120.0, -120.4, -119.8, 60.0, 60.0, 0.1, 0.2):
        measure(clock, offset)
    assert caplog.messages == [
        "this host's clock is 120 s ahead of the broker's: deadlines are converted to it; set both by NTP",
        "this host's clock is 60 s behind the broker's: deadlines are converted to it; set both by NTP",
        "this host's clock and the broker's are in step again (they were 60 s apart)",
    ]
    assert clock.offset is IN_STEP


def test_a_comparison_that_took_long_says_nothing_of_clocks_that_may_be_in_step(clock: BrokerClock) -> None:
    measure(clock, 8.0, took=9.0)
    assert clock.offset is IN_STEP


def test_a_value_that_may_still_be_right_stays(clock: BrokerClock) -> None:
    measure(clock, 120.0)
    before = clock.offset
    measure(clock, 120.9)
    assert clock.offset is before

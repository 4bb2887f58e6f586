"""Comparisons of this host's clock with the broker's."""

import asyncio
import logging
import time
from typing import cast

import pytest

from crew.amqp.broker_clock import MOST_BREAKS, BrokerClock
from crew.amqp.channel import Channel
from crew.amqp.errors import LinkError
from crew.protocol.clock import IN_STEP, ClockOffset
from tests.support.waiting import until


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> BrokerClock:
    """A clock without a comparison."""
    caplog.set_level(logging.INFO)
    return BrokerClock()


def measure(clock: BrokerClock, offset: float, *, took: float = 0.0) -> None:
    """Record a comparison with this offset, precise to a second and the time that it took."""
    clock._learn(ClockOffset(offset - 0.5 - took, offset + 0.5 + took))


@pytest.mark.parametrize("offset", [0.0, 1.9, -1.9])
def test_a_small_difference_counts_as_no_difference(
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
        "clock difference: this host's clock is 120 s ahead of the broker's; converting deadlines; use NTP on both",
        "clock difference: this host's clock is 60 s behind the broker's; converting deadlines; use NTP on both",
        "clock difference to the broker is gone: the clocks were 60 s apart",
    ]
    assert clock.offset is IN_STEP


def test_a_slow_comparison_that_allows_no_difference_counts_as_none(clock: BrokerClock) -> None:
    measure(clock, 8.0, took=9.0)
    assert clock.offset is IN_STEP


def test_an_offset_that_a_new_comparison_allows_is_not_changed(clock: BrokerClock) -> None:
    measure(clock, 120.0)
    before = clock.offset
    measure(clock, 120.9)
    assert clock.offset is before


class CountingClock(BrokerClock):
    """A clock whose host's time the test sets; counts its comparisons."""

    def __init__(self) -> None:
        self.wrong_by = 0.0
        self.comparisons = 0
        super().__init__(wall=lambda: time.time() + self.wrong_by, watch_interval=0.01)

    async def _measured(self, channel: object) -> ClockOffset:
        self.comparisons += 1
        return ClockOffset(-self.wrong_by - 0.5, -self.wrong_by + 0.5)


async def no_channel() -> Channel:
    """A channel that is not used."""
    return cast(Channel, None)


@pytest.mark.gen_test
async def test_a_host_clock_that_is_set_at_run_time_is_compared_again() -> None:
    clock, ended = CountingClock(), asyncio.get_running_loop().create_future()
    comparing = asyncio.ensure_future(clock.keep(no_channel, ended))
    await clock.compared()
    assert clock.offset is IN_STEP
    clock.wrong_by = 120.0
    await until(lambda: clock.offset.middle == -120.0)
    clock.wrong_by = 0.0
    await until(lambda: clock.offset is IN_STEP)
    assert clock.comparisons == 3
    ended.set_result(None)
    await comparing


@pytest.mark.gen_test
async def test_a_comparison_that_breaks_the_connection_is_tried_a_few_times_only() -> None:
    clock, tried = BrokerClock(), []

    async def broken() -> Channel:
        tried.append(1)
        raise LinkError("the connection broke")

    for _ in range(10):
        ended = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        await clock.compare(broken, ended, within=1.0)
    assert len(tried) == MOST_BREAKS
    await asyncio.wait_for(clock.compared(), 0.5)


@pytest.mark.gen_test
async def test_a_refused_comparison_is_tried_again_on_the_next_occasion() -> None:
    clock, tried = BrokerClock(), []

    async def refused() -> Channel:
        tried.append(1)
        raise LinkError("refused", code=403)

    for _ in range(10):
        await clock.compare(refused, asyncio.get_running_loop().create_future(), within=1.0)
    assert len(tried) == 10
    assert clock.offset is IN_STEP

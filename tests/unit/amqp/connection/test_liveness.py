"""Heartbeat timeouts, measured by iterations of the event loop."""

import asyncio
import time

import pytest

from crew.amqp.connection.liveness import Liveness
from crew.amqp.errors import LinkError
from tests.support.waiting import until

HEARTBEAT = 0.2  # seconds


class Broker:
    """A broker whose sent bytes the test counts."""

    def __init__(self) -> None:
        self.sent = 0
        self.faults: list[LinkError] = []

    def received_bytes(self) -> int:
        """The number of bytes that a connection has received."""
        return self.sent

    def watched(self, heartbeat: float = HEARTBEAT) -> Liveness:
        """A Liveness that watches this broker."""
        return Liveness(self.received_bytes, heartbeat=heartbeat, on_timeout=self.faults.append)


@pytest.mark.gen_test
async def test_a_broker_that_sends_nothing_for_one_and_a_half_heartbeats_times_out_once() -> None:
    broker, began = Broker(), time.monotonic()
    broker.watched()
    await until(lambda: broker.faults)
    assert time.monotonic() - began >= 1.4 * HEARTBEAT
    assert str(broker.faults[0]) == "heartbeat timeout: the broker sent nothing for 0.3 s"
    await asyncio.sleep(2 * HEARTBEAT)
    assert len(broker.faults) == 1


@pytest.mark.gen_test
async def test_a_broker_that_sends_something_every_heartbeat_does_not_time_out() -> None:
    broker = Broker()
    liveness = broker.watched()
    for _ in range(4):
        await asyncio.sleep(HEARTBEAT)
        broker.sent += 1
    assert not broker.faults
    liveness.stop()


@pytest.mark.gen_test
async def test_a_process_that_was_suspended_reads_before_it_times_out_the_broker() -> None:
    broker = Broker()
    liveness = broker.watched()
    await asyncio.sleep(HEARTBEAT / 2)
    time.sleep(3 * HEARTBEAT)  # noqa: ASYNC251 -- the loop is blocked, as by SIGSTOP
    await asyncio.sleep(HEARTBEAT / 2)
    assert not broker.faults
    liveness.stop()


@pytest.mark.gen_test
async def test_without_heartbeats_there_is_no_timeout() -> None:
    broker = Broker()
    broker.watched(heartbeat=0)
    await asyncio.sleep(2 * HEARTBEAT)
    assert not broker.faults


@pytest.mark.gen_test
async def test_there_is_no_timeout_after_stop() -> None:
    broker = Broker()
    broker.watched().stop()
    await asyncio.sleep(2 * HEARTBEAT)
    assert not broker.faults

"""A broker that has fallen silent, as the loop's own turns tell it."""

import asyncio
import time

import pytest

from crew.amqp.connection.liveness import Liveness
from crew.amqp.errors import LinkError
from tests.support.waiting import until

HEARTBEAT = 0.2  # seconds


class Broker:
    """Counts what it has said."""

    def __init__(self) -> None:
        self.said = 0
        self.faults: list[LinkError] = []

    def received_bytes(self) -> int:
        """As a connection counts it."""
        return self.said

    def watched(self, heartbeat: float = HEARTBEAT) -> Liveness:
        """Watch it."""
        return Liveness(self.received_bytes, heartbeat=heartbeat, on_timeout=self.faults.append)


@pytest.mark.gen_test
async def test_a_broker_that_says_nothing_for_one_and_a_half_heartbeats_is_given_up_once() -> None:
    broker, began = Broker(), time.monotonic()
    broker.watched()
    await until(lambda: broker.faults)
    assert time.monotonic() - began >= 1.4 * HEARTBEAT
    assert str(broker.faults[0]) == "heartbeat timeout: the broker sent nothing for 0.3 s"
    await asyncio.sleep(2 * HEARTBEAT)
    assert len(broker.faults) == 1


@pytest.mark.gen_test
async def test_a_broker_that_says_something_every_heartbeat_is_not_silent() -> None:
    broker = Broker()
    liveness = broker.watched()
    for _ in range(4):
        await asyncio.sleep(HEARTBEAT)
        broker.said += 1
    assert not broker.faults
    liveness.stop()


@pytest.mark.gen_test
async def test_who_was_stopped_himself_listens_before_he_blames_the_broker() -> None:
    broker = Broker()
    liveness = broker.watched()
    await asyncio.sleep(HEARTBEAT / 2)
    time.sleep(3 * HEARTBEAT)  # noqa: ASYNC251 -- the loop is blocked, as by SIGSTOP
    await asyncio.sleep(HEARTBEAT / 2)
    assert not broker.faults
    liveness.stop()


@pytest.mark.gen_test
async def test_a_broker_without_heartbeats_may_be_silent() -> None:
    broker = Broker()
    broker.watched(heartbeat=0)
    await asyncio.sleep(2 * HEARTBEAT)
    assert not broker.faults


@pytest.mark.gen_test
async def test_nobody_listens_after_the_end() -> None:
    broker = Broker()
    broker.watched().stop()
    await asyncio.sleep(2 * HEARTBEAT)
    assert not broker.faults

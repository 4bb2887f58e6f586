"""The watermark passes an instant only if all reports published before it are committed, and soon after that."""

import asyncio
import functools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.amqp.channel import QueueDepth
from crew.errors import ConnectionError
from crew.jobs.maintenance.watermark import ANSWER_WITHIN, MAX_ASKED, MAX_CLOCK_STEP, MAX_GAP, MAX_ID, Watermark
from tests.support.simulated_gateways import SkippingLoop, World

WEIGHTS = {  # how often each action is chosen: mostly so that reports are committed and checkpoints complete
    "publish": 1.5,
    "deliver": 10,
    "read": 12,
    "commit": 10,
    "go on": 14,
    "event": 14,
    "ask": 2,
    "connect": 5,
    "lose": 0.3,
    "close": 0.4,
    "lose event": 0.2,
    "time out": 0.1,
}
ACTIONS = 400


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**32))
def test_in_any_order_of_events_the_watermark_passes_no_report_that_is_not_committed(gateways: int, seed: int) -> None:
    """And when the faults end, it passes the present moment."""
    choice = random.Random(seed)

    async def simulate() -> None:
        world = World(gateways)
        for which in range(gateways):
            await world.act("connect", which)
        for name in choice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=ACTIONS):
            await world.act(name, choice.randrange(6))
        await world.calm_down()
        answers = [await world.answers() for _ in range(2)]  # the first checkpoint gets to know the other gateways
        assert all(answers[1])
        await world.end()

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(simulate())


async def two_gateways() -> World:
    """Two gateways that know each other."""
    world = World(2)
    await world.act("connect", 0)
    await world.act("connect", 1)
    await world.answers()
    assert await world.answers() == [True, True]
    return world


def deliver(world: World, gateway: int) -> None:
    """The broker delivers its next report to this gateway, which reads it."""
    connection = world.gateways[gateway].connection
    assert connection is not None
    connection.unacked.append(world.queue[0])
    connection.sent.append(world.queue.popleft())
    world.gateways[gateway].read()


@pytest.mark.gen_test
async def test_a_report_that_another_gateway_holds_keeps_the_watermark_before_it() -> None:
    world = await two_gateways()
    await world.act("publish", 0)
    deliver(world, 1)
    asking = asyncio.create_task(world.ask(world.gateways[0]))
    for _ in range(50):
        for name in ("read", "go on", "event"):
            await world.act(name, 0)
            await world.act(name, 1)
    assert not asking.done()
    await world.finish()
    assert asking.result()


@pytest.mark.gen_test
async def test_a_connection_that_the_broker_still_counts_holds_the_watermark() -> None:
    """Its reports come back to the queue when the broker notices that it is lost."""
    world = await two_gateways()
    await world.act("publish", 0)
    deliver(world, 1)
    lost = world.gateways[1].connection
    world.gateways[1].lose()
    world.gateways[1].connect()
    assert lost in world.connections
    asking = asyncio.create_task(world.ask(world.gateways[0]))
    for _ in range(50):
        for name in ("read", "go on", "event"):
            await world.act(name, 0)
            await world.act(name, 1)
    assert not asking.done(), "two gateways have settled, but the broker has three consumers"
    asking.cancel()


class Alone:
    """A single gateway with clocks that the test sets.

    Attributes:
        epoch: seconds of the clock; up: seconds of the monotonic clock.
        depth: that the broker states; an exception is raised.
    """

    def __init__(self) -> None:
        self.epoch, self.up = 1_000.0, 50.0
        self.depth: QueueDepth | Exception = QueueDepth(0, 1)
        self.events: list[dict[str, Any]] = []
        self.watermark = Watermark(
            depth=self._depth,
            settle=self._settle,
            publish=self.events.append,
            clock=lambda: self.epoch,
            monotonic=lambda: self.up,
        )
        self.watermark.on_consuming()

    async def _depth(self) -> QueueDepth:
        if isinstance(self.depth, Exception):
            raise self.depth
        return self.depth

    async def _settle(self) -> None:
        return None

    async def pass_time(self, seconds: float) -> None:
        """Let both clocks go on, with a step every second."""
        for _ in range(round(seconds)):
            self.epoch, self.up = self.epoch + 1, self.up + 1
            await self.watermark.step()

    async def has_passed(self, *, observed: float = 0.0) -> bool:
        return await self.watermark.has_passed(self.epoch, observed=observed)


@pytest.mark.gen_test
async def test_a_single_gateway_asks_no_other() -> None:
    alone = Alone()
    assert await alone.has_passed()
    assert alone.events == []


@pytest.mark.parametrize(
    "depth",
    [QueueDepth(1, 1), QueueDepth(0, 2), ConnectionError("lost"), TimeoutError()],
    ids=["a report", "a consumer", "lost", "late"],
)
@pytest.mark.gen_test
async def test_the_watermark_stays_while_a_report_may_be_elsewhere(depth: QueueDepth | Exception) -> None:
    alone = Alone()
    assert await alone.has_passed()
    alone.depth = depth
    await alone.pass_time(1)
    assert not await alone.has_passed()
    assert await alone.watermark.has_passed(alone.epoch - 1, observed=0.0), "it has passed this instant already"


@pytest.mark.gen_test
async def test_workers_have_time_to_reconnect_after_an_outage() -> None:
    alone = Alone()
    await alone.pass_time(5)
    assert await alone.has_passed(observed=5)
    alone.watermark.on_lost()
    assert not await alone.watermark.has_passed(0.0, observed=0.0), "not consuming"
    alone.watermark.on_consuming()
    await alone.pass_time(2)
    assert not await alone.has_passed(observed=5)
    await alone.pass_time(3)
    assert await alone.has_passed(observed=5)


@pytest.mark.parametrize(
    ("went", "passed"),
    [
        (MAX_CLOCK_STEP + 0.1, 0.0),  # the clock was set, or the host has slept
        (-MAX_CLOCK_STEP - 0.1, 0.0),
        (-3_600.0, 0.0),
        (MAX_GAP + 0.1, MAX_GAP + 0.1),  # this process was stopped
    ],
)
@pytest.mark.gen_test
async def test_a_gap_of_the_clocks_begins_the_observation_again(went: float, passed: float) -> None:
    alone = Alone()
    await alone.pass_time(20)
    assert await alone.has_passed(observed=20)
    alone.epoch, alone.up = alone.epoch + went, alone.up + passed
    assert not await alone.has_passed(observed=1)
    await alone.pass_time(1)
    assert await alone.has_passed(observed=1)


@pytest.mark.gen_test
async def test_a_clock_that_is_set_back_takes_the_watermark_back() -> None:
    alone = Alone()
    assert await alone.has_passed()
    alone.epoch -= 3_600
    alone.depth = QueueDepth(1, 1)
    assert not await alone.has_passed()


@pytest.mark.gen_test
async def test_a_clock_that_is_set_during_a_checkpoint_makes_it_void() -> None:
    alone = Alone()

    async def set_clock() -> None:
        alone.epoch -= 3_600

    alone.watermark._settle = set_clock
    assert not await alone.watermark.has_passed(0.0, observed=0.0)


@pytest.mark.gen_test
async def test_forged_events_cost_little_and_move_nothing() -> None:
    alone = Alone()
    alone.depth = QueueDepth(0, 3)
    asking = asyncio.create_task(alone.has_passed())
    while not alone.events:
        await asyncio.sleep(0)
    id = alone.events[-1]["checkpoint"]
    for number in range(5_000):
        alone.watermark.on_settled([id], f"forged {number}")
    alone.watermark.on_settled([id, {}, None], "x" * 10_000)
    while len(alone.events) < 2:
        await asyncio.sleep(0)
    assert len(alone.watermark._checkpoint.settled) <= 1_000
    asking.cancel()
    alone.events.clear()
    alone.watermark._settle = functools.partial(asyncio.sleep, 0.05)
    await asyncio.gather(*(alone.watermark.answer(f"{number}") for number in range(5 * MAX_ASKED)))
    await alone.watermark.answer("x" * (MAX_ID + 1))
    assert sum(len(event["settled"]) for event in alone.events) <= 2 * MAX_ASKED
    assert len({event["consumer"] for event in alone.events}) == 1


@pytest.mark.gen_test
async def test_a_gateway_that_has_lost_its_connection_meanwhile_does_not_answer() -> None:
    alone = Alone()

    async def lose() -> None:
        alone.watermark.on_lost()
        alone.watermark.on_consuming()

    alone.watermark._settle = lose
    await alone.watermark.answer("a")
    assert alone.events == []


@pytest.mark.gen_test
async def test_a_broker_that_answers_late_moves_nothing() -> None:
    """It may be as late with the reports of workers."""
    alone = Alone()

    async def late() -> QueueDepth:
        await asyncio.sleep(60)
        return QueueDepth(0, 1)

    alone.watermark._depth = late
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not await alone.has_passed()
    assert loop.time() - began < 2 * ANSWER_WITHIN + 5

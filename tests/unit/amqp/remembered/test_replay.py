"""What a new connection begins with, while others add to it and take away."""

from collections.abc import Callable
from typing import Any

import pytest

from crew.amqp.channel import Channel
from crew.amqp.remembered.consumers import Consumer, Consumers
from crew.amqp.remembered.declarations import Declarations
from crew.amqp.remembered.replay import ROUNDS, Replay
from crew.protocol.topology import Binding, Item, Queue
from tests.support.links import ignored
from tests.support.pika_channel import PikaChannel, an_open_channel

OURS, OLD, NEW = Queue("q"), Binding("q", "e", "old"), Binding("q", "e", "new")


class Connecting:
    """A link that replays over one connection after another, and what happens to it meanwhile.

    Attributes:
        told: what all of its channels were told, where a test makes it a list.
    """

    told: list[tuple[Any, ...]] | None = None

    def __init__(self, *items: Item) -> None:
        self.declarations = Declarations(items, self._open_channel, queue_type="classic")
        self.consumers = Consumers()
        self.declaring: list[PikaChannel] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.adds_all_the_time = False

    async def connect(self) -> PikaChannel:
        """Over a new connection."""
        channel, pika = await self._open()
        await Replay(self.declarations, self.consumers, channel).run()
        return pika

    def bound(self) -> list[str]:
        """Keys that were bound, in their order."""
        return [one["routing_key"] for pika in self.declaring for (one,) in pika.did("queue_bind")]

    async def _open_channel(self) -> Channel:
        channel, pika = await self._open()
        self.declaring.append(pika)
        if self.meanwhile:
            self.meanwhile.pop()()
        if self.adds_all_the_time:
            self.declarations.add([Queue(f"q{len(self.declaring)}")])
        return channel

    async def _open(self) -> tuple[Channel, PikaChannel]:
        channel, pika, _ = await an_open_channel()
        if self.told is not None:
            pika.told = self.told
        return channel, pika


@pytest.mark.gen_test
async def test_what_is_added_while_a_connection_is_made_is_declared_over_it() -> None:
    connecting = Connecting(OURS, OLD)
    connecting.meanwhile.append(lambda: void(connecting.declarations.add([NEW])))
    await connecting.connect()
    assert connecting.bound() == ["old", "new"]


@pytest.mark.gen_test(timeout=5)
async def test_somebody_who_adds_something_all_the_time_does_not_keep_the_link_from_being_ready() -> None:
    connecting = Connecting(OURS)
    connecting.adds_all_the_time = True
    await connecting.connect()
    assert len(connecting.declaring) == ROUNDS


@pytest.mark.gen_test
async def test_a_queue_that_is_added_while_others_are_declared_is_declared_before_it_is_consumed() -> None:
    connecting = Connecting(OURS)

    def subscribe() -> None:
        connecting.declarations.add([Queue("late")])
        connecting.consumers.remember(Consumer("late", ignored, 1))

    connecting.consumers.remember(Consumer("q", ignored, 1))
    connecting.meanwhile.append(subscribe)
    connecting.told = []
    pika = await connecting.connect()
    assert [queue for (queue,) in pika.did("basic_consume")] == ["q", "late"]
    steps = [one[0] for one in connecting.told if one[0] in ("queue_declare", "basic_consume")]
    assert steps == ["queue_declare", "basic_consume"] * 2, (
        "a consumer of a queue that is not there costs the connection"
    )


@pytest.mark.gen_test
async def test_a_consumer_that_is_replaced_or_forgotten_after_it_was_started_is_not_used() -> None:
    consumers = Consumers()
    replaced, kept = Consumer("a", ignored, 1), Consumer("a", ignored, 2)
    started: dict[str, Consumer] = {}
    channel, pika, _ = await an_open_channel()
    for consumer in (replaced, Consumer("b", ignored, 1)):
        consumers.remember(consumer)
    await consumers.catch_up(started, channel, of=consumers.queues)
    consumers.remember(kept)
    consumers.forget("b")
    assert await consumers.catch_up(started, channel, of=consumers.queues)
    assert started == {"a": kept}
    assert len(pika.did("basic_cancel")) == 2, "the first of a, and b"


@pytest.mark.gen_test
async def test_a_binding_that_was_removed_while_the_broker_was_away_is_taken_away_once() -> None:
    connecting = Connecting(OURS, OLD, NEW)
    await connecting.connect()
    connecting.declarations.remove(OLD)
    connecting.declarations.remove(NEW)
    connecting.declarations.add([NEW])
    unbound = [(await connecting.connect()).did("queue_unbind") for _ in range(2)]
    assert [[one["routing_key"] for (one,) in did] for did in unbound] == [["old"], []]


@pytest.mark.gen_test
async def test_a_binding_of_a_queue_that_is_not_ours_any_longer_is_left_alone() -> None:
    connecting = Connecting(OURS, OLD)
    await connecting.connect()
    connecting.declarations.remove(OLD)
    connecting.declarations.remove(OURS)
    assert (await connecting.connect()).did("queue_unbind") == [], "the broker closes the channel where it is gone"


def void(_: object) -> None:
    """For what a lambda returns."""

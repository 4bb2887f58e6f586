"""Declarations and consumers that a new connection starts with, while some are added and removed."""

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
    """A link that replays over one connection after another, with changes in between.

    Attributes:
        requests: requests of all its channels, if a test makes it a list.
    """

    requests: list[tuple[Any, ...]] | None = None

    def __init__(self, *items: Item) -> None:
        self.declarations = Declarations(items, self._open_channel, queue_type="classic", renewal_interval=30.0)
        self.consumers = Consumers()
        self.declaring: list[PikaChannel] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.adds_all_the_time = False

    async def connect(self) -> PikaChannel:
        """Replay over a new connection."""
        channel, pika = await self._open()
        await Replay(self.declarations, self.consumers, channel).run()
        return pika

    def bound(self) -> list[str]:
        """Keys that were bound, in order."""
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
        if self.requests is not None:
            pika.requests = self.requests
        return channel, pika


@pytest.mark.gen_test
async def test_a_binding_that_is_added_during_a_replay_is_declared() -> None:
    connecting = Connecting(OURS, OLD)
    connecting.meanwhile.append(lambda: discard(connecting.declarations.add([NEW])))
    await connecting.connect()
    assert connecting.bound() == ["old", "new"]


@pytest.mark.gen_test(timeout=5)
async def test_endless_new_declarations_do_not_prevent_the_link_from_becoming_ready() -> None:
    connecting = Connecting(OURS)
    connecting.adds_all_the_time = True
    await connecting.connect()
    assert len(connecting.declaring) == ROUNDS


@pytest.mark.gen_test
async def test_a_queue_that_is_added_during_a_replay_is_declared_before_it_is_consumed() -> None:
    connecting = Connecting(OURS)

    def subscribe() -> None:
        connecting.declarations.add([Queue("late")])
        connecting.consumers.remember(Consumer("late", ignored, 1))

    connecting.consumers.remember(Consumer("q", ignored, 1))
    connecting.meanwhile.append(subscribe)
    connecting.requests = []
    pika = await connecting.connect()
    assert [queue for (queue,) in pika.did("basic_consume")] == ["q", "late"]
    steps = [one[0] for one in connecting.requests if one[0] in ("queue_declare", "basic_consume")]
    assert steps == ["queue_declare", "basic_consume"] * 2, "consuming from a missing queue breaks the connection"


@pytest.mark.gen_test
async def test_a_started_consumer_that_is_replaced_or_forgotten_is_canceled() -> None:
    consumers = Consumers()
    replaced, replacement = Consumer("a", ignored, 1), Consumer("a", ignored, 2)
    started: dict[str, Consumer] = {}
    channel, pika, _ = await an_open_channel()
    for consumer in (replaced, Consumer("b", ignored, 1)):
        consumers.remember(consumer)
    await consumers.catch_up(started, channel, of=consumers.queues)
    consumers.remember(replacement)
    consumers.forget("b")
    assert await consumers.catch_up(started, channel, of=consumers.queues)
    assert started == {"a": replacement}
    assert len(pika.did("basic_cancel")) == 2, "the replaced consumer of a, and that of b"


@pytest.mark.gen_test
async def test_a_binding_removed_while_the_broker_was_away_is_unbound_once() -> None:
    connecting = Connecting(OURS, OLD, NEW)
    await connecting.connect()
    connecting.declarations.remove(OLD)
    connecting.declarations.remove(NEW)
    connecting.declarations.add([NEW])
    unbound = [(await connecting.connect()).did("queue_unbind") for _ in range(2)]
    assert [[one["routing_key"] for (one,) in did] for did in unbound] == [["old"], []]


@pytest.mark.gen_test
async def test_a_binding_of_a_removed_queue_is_not_unbound() -> None:
    connecting = Connecting(OURS, OLD)
    await connecting.connect()
    connecting.declarations.remove(OLD)
    connecting.declarations.remove(OURS)
    assert (await connecting.connect()).did("queue_unbind") == [], "the broker closes the channel if the queue is gone"


def discard(_: object) -> None:
    """Drop the value of an expression in a lambda."""

"""Consumers that are started again on each connection."""

import pytest

from crew.amqp.remembered.consumers import Consumer, Consumers
from tests.support.links import ignored
from tests.support.pika_channel import an_open_channel


@pytest.mark.gen_test
async def test_the_only_consumer_of_a_queue_has_priority_over_that_of_the_old_connection() -> None:
    consumers = Consumers()
    consumers.remember(Consumer("crew.reply.me", ignored, 0, is_only=True))
    consumers.remember(Consumer("crew.tasks.t", ignored, 1))
    for connection in (1, 2, 3):
        channel, pika, _ = await an_open_channel()
        consumers.on_connection()
        assert await consumers.catch_up({}, channel, of=consumers.queues)
        assert pika.priorities == [connection, 0]


@pytest.mark.gen_test
async def test_remembered_consumers_are_started_once_and_forgotten_ones_are_not() -> None:
    consumers = Consumers()
    consumers.remember(Consumer("a", ignored, 1))
    consumers.forget("a")
    consumers.remember(Consumer("b", ignored, 1))
    channel, pika, _ = await an_open_channel()
    started: dict[str, Consumer] = {}
    assert await consumers.catch_up(started, channel, of=consumers.queues)
    assert not await consumers.catch_up(started, channel, of=consumers.queues)
    assert [queue for (queue,) in pika.did("basic_consume")] == ["b"]
    assert "a" not in consumers
    assert repr(consumers) == "<Consumers of b>"

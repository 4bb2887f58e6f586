"""Events from clients and tasks reach all subscribers, also after a reconnect."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from crew import Client
from crew.client import blocking
from tests.integration.conftest import StartWorker
from tests.support.proxy import Proxy
from tests.support.waiting import until


class Collector:
    """Callback that collects events and waits for them."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    async def payloads(self, count: int) -> list[Any]:
        await until(lambda: len(self.events) >= count)
        return [event.payload for event in self.events]


@pytest.mark.gen_test
async def test_every_subscriber_receives_an_event_once(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as one, Client(broker_url) as two:
        first, second, third = Collector(), Collector(), Collector()
        subscriptions = [
            one.subscribe(prefix + "news", first),
            one.subscribe(prefix + "*", second),
            two.subscribe(prefix + "#", third),
        ]
        for subscription in subscriptions:
            await subscription.ready()
        await one.publish(prefix + "news", {"n": 1}, headers={"by": "one"})
        await two.publish(prefix + "news", b"raw")
        for collector in (first, second, third):
            assert await collector.payloads(2) == [{"n": 1}, b"raw"]
        assert first.events[0].topic == prefix + "news"
        assert first.events[0].headers == {"by": "one"}


@pytest.mark.gen_test
async def test_a_task_publishes_an_event(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    start_worker()
    async with Client(broker_url) as client:
        collector = Collector()
        await client.subscribe(prefix + "from.task", collector).ready()
        await client.call(prefix + "publish", {"topic": prefix + "from.task", "message": [1, 2]})
        assert await collector.payloads(1) == [[1, 2]]


@pytest.mark.gen_test
async def test_unsubscribing_one_callback_leaves_the_others_subscribed(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        removed, remaining = Collector(), Collector()
        client.subscribe(prefix + "topic", removed)
        await client.subscribe(prefix + "topic", remaining).ready()
        client.unsubscribe(prefix + "topic", removed)
        await client.publish(prefix + "topic", 1)
        assert await remaining.payloads(1) == [1]
        client.unsubscribe(prefix + "topic")
        new = Collector()
        await client.subscribe(prefix + "topic", new).ready()
        await client.publish(prefix + "topic", 2)
        assert await new.payloads(1) == [2]
        assert len(remaining.events) == 1
        assert not removed.events


@pytest.mark.gen_test
async def test_a_callback_that_raises_does_not_affect_other_callbacks(
    broker_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(event: Any) -> None:
        raise RuntimeError("in a coroutine")

    async with Client(broker_url) as client:
        collector = Collector()
        client.subscribe(prefix + "topic", lambda event: 1 / 0)
        client.subscribe(prefix + "topic", fails)
        await client.subscribe(prefix + "topic", collector).ready()
        await client.publish(prefix + "topic", "on")
        assert await collector.payloads(1) == ["on"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.gen_test(timeout=60)
async def test_calls_and_subscriptions_survive_a_connection_that_the_broker_closes(
    close_connections: Callable[[], None], broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        collector = Collector()
        await client.subscribe(prefix + "topic", collector).ready()
        running = client.call(prefix + "sleep", 1.5)
        await asyncio.sleep(0.3)
        close_connections()
        during_reconnect = client.call(prefix + "echo", "called during the reconnect")
        assert await during_reconnect == "called during the reconnect"
        assert await running == 1.5
        await client.publish(prefix + "topic", "after")
        assert await collector.payloads(1) == ["after"]
    assert "Traceback" not in worker.output


@pytest.mark.gen_test(timeout=30)
async def test_topics_subscribed_during_a_reconnect_receive_their_events(
    broker_url: str, prefix: str, proxied: Callable[[str], Proxy]
) -> None:
    proxy = proxied(broker_url)
    async with Client(proxy.url) as client:
        collector = Collector()
        await client.subscribe(prefix + "before", collector).ready()
        proxy.delay(0.02)  # in each direction: every request of the new connection takes 0.04 s
        proxy.cut()
        await until(lambda: not client.is_ready)
        subscriptions = []
        for number in range(15):  # in 0.75 s: while it connects, while it declares, and later
            subscriptions.append(client.subscribe(f"{prefix}topic.{number}", collector))
            await asyncio.sleep(0.05)
        await client.connect()
        proxy.heal()
        for number, subscription in enumerate(subscriptions):
            await subscription.ready()
            await client.publish(f"{prefix}topic.{number}", number)
        assert sorted(await collector.payloads(15)) == list(range(15))


def test_a_script_subscribes_with_the_blocking_client(broker_url: str, prefix: str) -> None:
    collector = Collector()
    with blocking.Client(broker_url) as client:
        client.subscribe(prefix + "topic", collector)
        client.publish(prefix + "topic", "from a script")
        assert asyncio.run(collector.payloads(1)) == ["from a script"]

"""Events reach everybody who subscribed, from gateway and tasks, also after the connection was lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from crew import Client
from crew.cli.broker.node import Node
from crew.client import blocking
from tests.integration.conftest import StartWorker
from tests.support.proxy import Proxy
from tests.support.waiting import until


class Heard:
    """Collects events, and waits for them."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    async def payloads(self, count: int) -> list[Any]:
        await until(lambda: len(self.events) >= count)
        return [event.payload for event in self.events]


@pytest.mark.gen_test
async def test_every_subscriber_hears_an_event_once(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as one, Client(broker_url) as two:
        first, second, third = Heard(), Heard(), Heard()
        subscriptions = [
            one.subscribe(prefix + "news", first),
            one.subscribe(prefix + "*", second),
            two.subscribe(prefix + "#", third),
        ]
        for subscription in subscriptions:
            await subscription.ready()
        await one.publish(prefix + "news", {"n": 1}, headers={"by": "one"})
        await two.publish(prefix + "news", b"raw")
        for heard in (first, second, third):
            assert await heard.payloads(2) == [{"n": 1}, b"raw"]
        assert first.events[0].topic == prefix + "news"
        assert first.events[0].headers == {"by": "one"}


@pytest.mark.gen_test
async def test_a_task_publishes(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    start_worker()
    async with Client(broker_url) as client:
        heard = Heard()
        await client.subscribe(prefix + "from.task", heard).ready()
        await client.call(prefix + "publish", {"topic": prefix + "from.task", "message": [1, 2]})
        assert await heard.payloads(1) == [[1, 2]]


@pytest.mark.gen_test
async def test_an_unsubscribed_callback_hears_nothing_more_and_its_neighbour_still_does(
    broker_url: str, prefix: str
) -> None:
    async with Client(broker_url) as client:
        leaves, stays = Heard(), Heard()
        client.subscribe(prefix + "topic", leaves)
        await client.subscribe(prefix + "topic", stays).ready()
        client.unsubscribe(prefix + "topic", leaves)
        await client.publish(prefix + "topic", 1)
        assert await stays.payloads(1) == [1]
        client.unsubscribe(prefix + "topic")
        again = Heard()
        await client.subscribe(prefix + "topic", again).ready()
        await client.publish(prefix + "topic", 2)
        assert await again.payloads(1) == [2]
        assert len(stays.events) == 1
        assert not leaves.events


@pytest.mark.gen_test
async def test_a_callback_that_raises_costs_the_others_nothing(
    broker_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(event: Any) -> None:
        raise RuntimeError("in a coroutine")

    async with Client(broker_url) as client:
        heard = Heard()
        client.subscribe(prefix + "topic", lambda event: 1 / 0)
        client.subscribe(prefix + "topic", fails)
        await client.subscribe(prefix + "topic", heard).ready()
        await client.publish(prefix + "topic", "on")
        assert await heard.payloads(1) == ["on"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.gen_test(timeout=60)
async def test_calls_and_subscriptions_outlive_a_connection_that_the_broker_closes(
    node: Node, broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        heard = Heard()
        await client.subscribe(prefix + "topic", heard).ready()
        running = client.call(prefix + "sleep", 1.5)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(node.ctl, "close_all_connections", "test")
        waiting = client.call(prefix + "echo", "called while away")
        assert await waiting == "called while away"
        assert await running == 1.5
        await client.publish(prefix + "topic", "after")
        assert await heard.payloads(1) == ["after"]
    assert "Traceback" not in worker.output


@pytest.mark.gen_test(timeout=30)
async def test_topics_that_are_subscribed_while_the_connection_is_made_again_are_heard(
    broker_url: str, prefix: str, proxied: Callable[[str], Proxy]
) -> None:
    proxy = proxied(broker_url)
    async with Client(proxy.url) as client:
        heard = Heard()
        await client.subscribe(prefix + "before", heard).ready()
        proxy.delay(0.02)  # each way of each question of the new connection
        proxy.cut()
        await until(lambda: not client.is_ready)
        subscriptions = []
        for number in range(15):  # in 0.75 s: while it connects, while it declares, and later
            subscriptions.append(client.subscribe(f"{prefix}topic.{number}", heard))
            await asyncio.sleep(0.05)
        await client.connect()
        proxy.heal()
        for number, subscription in enumerate(subscriptions):
            await subscription.ready()
            await client.publish(f"{prefix}topic.{number}", number)
        assert sorted(await heard.payloads(15)) == list(range(15))


def test_a_script_subscribes(broker_url: str, prefix: str) -> None:
    heard = Heard()
    with blocking.Client(broker_url) as client:
        client.subscribe(prefix + "topic", heard)
        client.publish(prefix + "topic", "from a script")
        assert asyncio.run(heard.payloads(1)) == ["from a script"]

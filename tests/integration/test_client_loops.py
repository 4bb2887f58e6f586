"""Clients with a real broker, before their event loop runs and after it was closed."""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from crew import Client
from crew.amqp import LinkState
from tests.support.processes import Process
from tests.support.waiting import until


def test_a_client_that_was_not_closed_works_in_the_next_asyncio_run(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    client = Client(broker_url)
    events: list[int] = []
    client.subscribe(prefix + "news", lambda event: events.append(event.payload))

    async def use(number: int) -> int:
        value: int = await client.call(prefix + "echo", number)
        while number not in events:  # until the broker has the subscription
            await client.publish(prefix + "news", number)
        return value

    assert [asyncio.run(use(number)) for number in (1, 2, 3)] == [1, 2, 3]
    asyncio.run(client.close())


def test_a_client_publishes_events_that_are_not_awaited_before_it_closes(broker_url: str, prefix: str) -> None:
    events: list[object] = []

    async def main() -> None:
        async with Client(broker_url) as subscriber:
            await subscriber.subscribe(prefix + "news", events.append).ready()
            async with Client(broker_url) as client:
                for number in range(100):
                    client.publish(prefix + "news", number)
            await until(lambda: len(events) == 100)

    asyncio.run(main())


@pytest.mark.gen_test
async def test_a_refused_login_is_logged_once_if_connect_is_not_awaited(
    broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(broker_url)
    client = Client(f"amqp://crew:wrong@{parts.hostname}:{parts.port}/")
    client.connect()
    await until(lambda: {client.links.publishing.state, client.links.consuming.state} == {LinkState.REFUSED})
    refused = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(refused) == 1
    assert "wrong" not in caplog.text
    await client.close()

"""While the broker is unavailable, a call waits for it or, with `fail_fast`, fails at once."""

import asyncio
import time
from collections.abc import Callable

import pytest

import crew
from crew import Client
from crew.client.blocking import Client as BlockingClient
from tests.integration.conftest import StartWorker
from tests.support.proxy import Proxy
from tests.support.waiting import until


@pytest.mark.gen_test(timeout=30)
async def test_a_call_with_fail_fast_fails_at_once_while_the_broker_is_unavailable(
    broker_url: str, prefix: str, start_worker: StartWorker, proxied: Callable[[str], Proxy]
) -> None:
    start_worker()
    proxy = proxied(broker_url)
    async with Client(proxy.url, fail_fast=True) as client:
        assert await client.call(prefix + "echo", "here") == "here"
        published = client.call(prefix + "sleep", 0.5, expiration=20)
        await until(lambda: published.has_started)
        proxy.cut(refuse=True)
        await until(lambda: not client.is_ready)
        began = time.monotonic()
        with pytest.raises(crew.ConnectionError, match="is not called: the broker is unavailable: "):
            client.call(prefix + "echo", "at once")
        assert time.monotonic() - began < 2, "it does not wait for its deadline"
        waiting = client.call(prefix + "echo", "in time", fail_fast=False, expiration=20)
        assert not published.done()  # the broker has it
        proxy.heal()
        assert await waiting == "in time"
        assert await published == 0.5
        assert await client.call(prefix + "echo", "back") == "back"


def test_a_blocking_client_supports_fail_fast_and_drain(broker_url: str, prefix: str, shared_worker: object) -> None:
    with BlockingClient(broker_url) as client:
        with pytest.raises(crew.ConnectionError, match="has not been reached yet"):
            client.call(prefix + "echo", 1, fail_fast=True)
        client.connect(timeout=5)
        call = client.call(prefix + "sleep", 0.3, fail_fast=True)
        client.drain(timeout=5)
        assert call.result() == 0.3
        with pytest.raises(crew.ConnectionError):
            client.call(prefix + "echo", 1)


@pytest.mark.gen_test
async def test_a_draining_client_still_receives_and_publishes_events(
    broker_url: str, prefix: str, shared_worker: object
) -> None:
    received: list[object] = []
    async with Client(broker_url) as client:
        await client.subscribe(prefix + "news", lambda event: received.append(event.payload)).ready()
        call = client.call(prefix + "sleep", 0.4)
        draining = asyncio.ensure_future(client.drain(timeout=5))
        await until(lambda: not client.is_ready)
        await client.publish(prefix + "news", "still here")
        await until(lambda: received == ["still here"])
        assert not call.done()
        await draining
        assert await call == 0.4

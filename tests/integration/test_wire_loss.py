"""A connection that breaks, stops responding or is slow loses no call, on the client's side and on the worker's."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator

import pytest

from crew import Client, ConnectionError
from crew.client.blocking import Client as BlockingClient
from tests.integration.conftest import TASKS
from tests.support.outage import Outage
from tests.support.processes import Process, running
from tests.support.proxy import Proxy, proxying
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.chaos

HEARTBEAT = 2  # seconds
DETECTED_WITHIN = 3.0  # seconds: 1.5 heartbeats, after which the connection to an unresponsive broker is closed
DISCONNECTED_FOR = 5.0  # seconds
UNRESPONSIVE_FOR = 3.0  # seconds
DELAY = 0.5  # seconds, in each direction: long enough to lose a confirm in transit
LINKS = 2  # connections of a client, and of a worker process


@pytest.fixture(scope="module")
def worker_proxy(broker_url: str) -> Iterator[Proxy]:
    """Proxy between the worker and the broker."""
    with proxying() as make:
        yield make(broker_url)


@pytest.fixture(scope="module")
def worker(worker_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str) -> Iterator[Process]:
    """A worker with threads, which runs during all tests of the module."""
    environment = {
        "CREW_AMQP_URL": worker_proxy.url,
        "CREW_TEST_PREFIX": shared_prefix,
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(TASKS, "--threads", "5").says("serving")


@pytest.fixture(autouse=True)
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short heartbeat for clients of this process."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))


@pytest.fixture(autouse=True)
def healed(worker_proxy: Proxy, worker: Process) -> Iterator[None]:
    """Restore the worker's connections after each test."""
    yield
    worker_proxy.heal()
    eventually(lambda: worker_proxy.connections == LINKS)


@pytest.fixture
def prefix(shared_prefix: str) -> str:
    """Prefix of the worker's task names."""
    return shared_prefix


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    """Proxy between the client and the broker."""
    with proxying() as make:
        yield make(broker_url)


@pytest.mark.gen_test(timeout=60)
async def test_connections_that_break_on_either_side_lose_no_call(
    proxy: Proxy, worker_proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(proxy.cut)
        await outage.through(worker_proxy.cut)


@pytest.mark.skipif("CREW_TEST_AMQP_URL" in os.environ, reason="closes connections of a node of our own")
@pytest.mark.gen_test(timeout=60)
async def test_connections_that_the_broker_closes_lose_no_call(
    close_connections: Callable[[], None],
    broker_url: str,
    worker: Process,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Client(broker_url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(close_connections)


@pytest.mark.gen_test(timeout=90)
async def test_a_half_open_connection_on_either_side_is_detected_and_loses_no_call(
    proxy: Proxy, worker_proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(proxy.half_open, lambda: _await_detection(proxy))
        await outage.through(worker_proxy.half_open, lambda: _await_detection(worker_proxy))


@pytest.mark.gen_test(timeout=60)
async def test_a_client_reconnects_as_soon_as_an_unresponsive_network_recovers(
    proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        proxy.half_open(new=True)
        began = proxy.attempts
        await outage.through(proxy.cut, lambda: _heal_after(proxy, UNRESPONSIVE_FOR), is_away=True)
        assert proxy.attempts - began < 3 * LINKS * UNRESPONSIVE_FOR  # reconnect attempts are limited


@pytest.mark.gen_test(timeout=30)
async def test_replies_sent_while_a_client_is_disconnected_arrive_after_it_reconnects(
    proxy: Proxy, worker: Process, prefix: str
) -> None:
    async with Client(proxy.url) as client:
        calls = [client.call(prefix + "sleep", 0.5, expiration=20) for _ in range(5)]
        await until(lambda: all(call.has_started for call in calls))
        proxy.cut(refuse=True)
        await asyncio.sleep(DISCONNECTED_FOR)
        assert not any(call.done() for call in calls)
        proxy.heal()
        assert await asyncio.gather(*calls) == [0.5] * 5


@pytest.mark.gen_test(timeout=30)
async def test_replies_of_a_disconnected_worker_arrive_after_it_reconnects(
    broker_url: str, worker_proxy: Proxy, worker: Process, prefix: str
) -> None:
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "sleep", 0.5, expiration=20) for _ in range(5)]
        await until(lambda: all(call.has_started for call in calls))
        worker_proxy.cut(refuse=True)
        await asyncio.sleep(DISCONNECTED_FOR)
        assert not any(call.done() for call in calls)
        began = time.monotonic()
        worker_proxy.heal()
        assert await asyncio.gather(*calls) == [0.5] * 5
        assert time.monotonic() - began < 2


@pytest.mark.gen_test(timeout=30)
async def test_an_unconfirmed_call_is_resent_if_persistent_and_fails_at_once_otherwise(
    proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="crew")
    recent = worker.from_now()
    async with Client(proxy.url) as client:
        await client.call(prefix + "echo")
        proxy.delay(DELAY)
        persistent_call = client.call(prefix + "note", {"name": "persistent", "seconds": 1}, expiration=20)
        transient_call = client.call(prefix + "note", {"name": "transient"}, persistent=False, expiration=20)
        await until(lambda: "STARTED persistent" in recent.output and "STARTED transient" in recent.output)
        proxy.cut()
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=f"call {transient_call.id} may be lost: "):
            await transient_call
        assert time.monotonic() - began < 2, "it does not wait for its deadline"
        proxy.heal()
        assert (await persistent_call)["name"] == "persistent"
        await until(lambda: f"late or repeated reply discarded: call_id={persistent_call.id}" in caplog.text)
    assert recent.output.count("STARTED persistent") == 2
    assert recent.output.count("STARTED transient") == 1


@pytest.mark.gen_test(timeout=30)
async def test_an_unconfirmed_reply_is_resent_and_the_client_discards_the_copy(
    broker_url: str, worker_proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="crew")
    async with Client(broker_url) as client:
        worker_proxy.delay(DELAY)
        call = client.call(prefix + "echo", "once", expiration=20)
        assert await call == "once"
        worker_proxy.cut()
        worker_proxy.heal()
        await until(lambda: f"late or repeated reply discarded: call_id={call.id}" in caplog.text)


def test_a_blocking_client_survives_a_broken_connection(proxy: Proxy, worker: Process, prefix: str) -> None:
    with BlockingClient(proxy.url) as client:
        running = [client.call(prefix + "sleep", 0.3, expiration=20) for _ in range(5)]
        proxy.cut()
        assert client.call(prefix + "echo", "after", expiration=20).result() == "after"
        assert [call.result() for call in running] == [0.3] * 5


def _await_detection(proxy: Proxy) -> None:
    began = time.monotonic()
    eventually(lambda: proxy.connections == LINKS, timeout=DETECTED_WITHIN + 2)
    assert time.monotonic() - began > DETECTED_WITHIN / 2  # not sooner than a heartbeat that is a little late


def _heal_after(proxy: Proxy, seconds: float) -> None:
    time.sleep(seconds)
    proxy.heal()

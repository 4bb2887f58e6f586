"""A wire that is cut, goes silent or delays costs no call, on the client's side and on the worker's."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator

import pytest

from crew import Client, ConnectionError
from crew.cli.broker.node import Node
from crew.client.blocking import Client as BlockingClient
from tests.integration.conftest import TASKS
from tests.support.outage import Outage
from tests.support.processes import Process, running
from tests.support.proxy import Proxy, proxying
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.chaos

HEARTBEAT = 2  # seconds
SILENT_FOR = 3.0  # seconds: one and a half heartbeats, after which a silent broker is given up
AWAY = 5.0  # seconds
SWALLOWS = 3.0  # seconds
DELAY = 0.5  # seconds, each way: a confirm that is on its way can be lost
LINKS = 2  # connections of a client, and of a worker process


@pytest.fixture(scope="module")
def worker_proxy(broker_url: str) -> Iterator[Proxy]:
    """Between the worker and the broker."""
    with proxying() as make:
        yield make(broker_url)


@pytest.fixture(scope="module")
def worker(worker_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str) -> Iterator[Process]:
    """A worker in threads, which lives through all of it."""
    environment = {
        "CREW_AMQP_URL": worker_proxy.url,
        "CREW_TEST_PREFIX": shared_prefix,
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(TASKS, "--threads", "5").says("serving")


@pytest.fixture(autouse=True)
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one, for clients of this process."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))


@pytest.fixture(autouse=True)
def healed(worker_proxy: Proxy, worker: Process) -> Iterator[None]:
    """What a test has broken is whole again for the next."""
    yield
    worker_proxy.heal()
    eventually(lambda: worker_proxy.connections == LINKS)


@pytest.fixture
def prefix(shared_prefix: str) -> str:
    """The worker's."""
    return shared_prefix


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    """Between the client and the broker."""
    with proxying() as make:
        yield make(broker_url)


@pytest.mark.gen_test(timeout=60)
async def test_connections_that_break_on_either_side_cost_no_call(
    proxy: Proxy, worker_proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(proxy.cut)
        await outage.through(worker_proxy.cut)


@pytest.mark.skipif("CREW_TEST_AMQP_URL" in os.environ, reason="closes connections of a node of our own")
@pytest.mark.gen_test(timeout=60)
async def test_connections_that_the_broker_closes_cost_no_call(
    node: Node, broker_url: str, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(broker_url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(lambda: node.ctl("close_all_connections", "a test"))


@pytest.mark.gen_test(timeout=90)
async def test_a_connection_that_is_half_open_on_either_side_is_noticed_and_costs_no_call(
    proxy: Proxy, worker_proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        await outage.through(proxy.half_open, lambda: _is_noticed(proxy))
        await outage.through(worker_proxy.half_open, lambda: _is_noticed(worker_proxy))


@pytest.mark.gen_test(timeout=60)
async def test_a_network_that_swallows_everything_is_used_as_soon_as_it_is_back(
    proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(proxy.url) as client:
        outage = Outage(client, prefix, worker, caplog)
        await outage.begin()
        proxy.half_open(new=True)
        began = proxy.attempts
        await outage.through(proxy.cut, lambda: _comes_back(proxy, SWALLOWS), is_away=True)
        assert proxy.attempts - began < 3 * LINKS * SWALLOWS  # nobody hammers on it


@pytest.mark.gen_test(timeout=30)
async def test_replies_that_come_while_the_client_is_away_arrive_when_it_is_back(
    proxy: Proxy, worker: Process, prefix: str
) -> None:
    async with Client(proxy.url) as client:
        calls = [client.call(prefix + "sleep", 0.5, expiration=20) for _ in range(5)]
        await until(lambda: all(call.has_started for call in calls))
        proxy.cut(refuse=True)
        await asyncio.sleep(AWAY)
        assert not any(call.done() for call in calls)
        proxy.heal()
        assert await asyncio.gather(*calls) == [0.5] * 5


@pytest.mark.gen_test(timeout=30)
async def test_replies_that_are_ready_while_the_worker_is_away_are_kept_and_arrive_when_it_is_back(
    broker_url: str, worker_proxy: Proxy, worker: Process, prefix: str
) -> None:
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "sleep", 0.5, expiration=20) for _ in range(5)]
        await until(lambda: all(call.has_started for call in calls))
        worker_proxy.cut(refuse=True)
        await asyncio.sleep(AWAY)
        assert not any(call.done() for call in calls)
        began = time.monotonic()
        worker_proxy.heal()
        assert await asyncio.gather(*calls) == [0.5] * 5
        assert time.monotonic() - began < 2


@pytest.mark.gen_test(timeout=30)
async def test_a_call_whose_confirm_was_lost_is_sent_again_if_persistent_and_fails_at_once_if_not(
    proxy: Proxy, worker: Process, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="crew")
    said = worker.from_now()
    async with Client(proxy.url) as client:
        await client.call(prefix + "echo")
        proxy.delay(DELAY)
        lasting = client.call(prefix + "note", {"name": "lasting", "seconds": 1}, expiration=20)
        transient = client.call(prefix + "note", {"name": "transient"}, persistent=False, expiration=20)
        await until(lambda: "STARTED lasting" in said.output and "STARTED transient" in said.output)
        proxy.cut()
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=f"call {transient.id} may be lost: "):
            await transient
        assert time.monotonic() - began < 2, "it does not wait for its deadline"
        proxy.heal()
        assert (await lasting)["name"] == "lasting"
        await until(lambda: f"late or repeated reply discarded: call_id={lasting.id}" in caplog.text)
    assert said.output.count("STARTED lasting") == 2
    assert said.output.count("STARTED transient") == 1


@pytest.mark.gen_test(timeout=30)
async def test_a_reply_whose_confirm_was_lost_is_sent_again_and_the_second_is_dropped(
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


def test_a_script_lives_through_a_connection_that_breaks(proxy: Proxy, worker: Process, prefix: str) -> None:
    with BlockingClient(proxy.url) as client:
        running = [client.call(prefix + "sleep", 0.3, expiration=20) for _ in range(5)]
        proxy.cut()
        assert client.call(prefix + "echo", "after", expiration=20).result() == "after"
        assert [call.result() for call in running] == [0.3] * 5


def _is_noticed(proxy: Proxy) -> None:
    began = time.monotonic()
    eventually(lambda: proxy.connections == LINKS, timeout=SILENT_FOR + 2)
    assert time.monotonic() - began > SILENT_FOR / 2  # not sooner than a heartbeat that is a little late


def _comes_back(proxy: Proxy, seconds: float) -> None:
    time.sleep(seconds)
    proxy.heal()

"""A broker that crashes, restarts, freezes or lacks memory or disk loses no call, and clients reconnect at once."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from tests.integration.conftest import TASKS
from tests.support.outage import BACK_WITHIN, EXPIRATION, Outage
from tests.support.processes import Process, running
from tests.support.proxy import Proxy
from tests.support.shared_node import used_node
from tests.support.waiting import until

HEARTBEAT = 2  # seconds
SHORT = 0.8  # seconds: less than a heartbeat
LINKS = 2  # connections of a client
LONG = 5.0  # seconds: more than two heartbeats

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that only this module uses, so that it can be stopped and killed."""
    with used_node(tmp_path_factory.mktemp("own")) as node:
        yield node


@pytest.fixture(scope="module")
def worker(own_node: Node, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str) -> Iterator[Process]:
    """A worker with threads that keeps running through all outages of the module."""
    environment = {
        "CREW_AMQP_URL": own_node.url,
        "CREW_TEST_PREFIX": shared_prefix,
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(TASKS, "--threads", "4").says("serving")


@pytest.fixture
def make_outage(
    own_node: Node,
    worker: Process,
    shared_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Callable[[Client], Outage]:
    """Makes an outage that checks the calls of a client."""
    return lambda client: Outage(client, shared_prefix, worker, caplog)


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short heartbeat for clients of this process."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=90)
async def test_a_broker_that_is_killed_or_restarted_loses_no_call(
    own_node: Node, make_outage: Callable[[Client], Outage]
) -> None:
    async with Client(own_node.url) as client:
        outage = make_outage(client)
        await outage.begin()
        await outage.through(own_node.kill, own_node.start, is_away=True)
        await outage.through(own_node.stop, own_node.start, is_away=True)


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=60)
async def test_a_freeze_shorter_than_a_heartbeat_breaks_no_connection(
    own_node: Node, make_outage: Callable[[Client], Outage], worker: Process
) -> None:
    log = worker.from_now()
    async with Client(own_node.url) as client:
        outage = make_outage(client)
        await outage.begin()
        await outage.through(lambda: freeze(own_node, SHORT), loses=False)
    assert "next attempt" not in log.output


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=60)
async def test_a_long_freeze_breaks_connections_and_loses_no_call(
    own_node: Node, make_outage: Callable[[Client], Outage], worker: Process
) -> None:
    log = worker.from_now()
    async with Client(own_node.url) as client:
        outage = make_outage(client)
        await outage.begin()
        await outage.through(lambda: freeze(own_node, LONG))
    assert "heartbeat timeout: the broker sent nothing for 3 s" in log.output


@pytest.mark.parametrize(
    ("raised", "cleared"),
    [
        (("set_vm_memory_high_watermark", "absolute", "1"), ("set_vm_memory_high_watermark", "0.4")),
        (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "1MB")),
    ],
    ids=["memory", "disk"],
)
@pytest.mark.usefixtures("heartbeat", "worker")
@pytest.mark.gen_test(timeout=60)
async def test_calls_are_refused_until_the_broker_has_recovered_also_over_a_new_connection(
    own_node: Node,
    proxied: Callable[[str], Proxy],
    shared_prefix: str,
    raised: tuple[str, ...],
    cleared: tuple[str, ...],
) -> None:
    proxy = proxied(own_node.url)
    task = shared_prefix + "echo"
    async with Client(proxy.url) as client:
        assert await client.call(task, "before") == "before"
        await asyncio.to_thread(own_node.ctl, *raised)
        try:
            published = client.call(task, "published", expiration=EXPIRATION)  # the broker blocks at the first message
            await until(lambda: is_refused(client, task))
            proxy.cut()
            await until(lambda: proxy.attempts == 2 * LINKS and is_refused(client, task))
            await asyncio.sleep(HEARTBEAT * 2)  # a blocked broker still sends heartbeats
            assert is_refused(client, task)
            assert not published.done()
        finally:
            await asyncio.to_thread(own_node.ctl, *cleared)
        began = time.monotonic()
        assert await published == "published"
        await until(lambda: not is_refused(client, task))
        assert await client.call(task, "after") == "after"
        assert time.monotonic() - began < BACK_WITHIN
    assert proxy.attempts == 2 * LINKS  # no connection was lost while the broker was blocked


def is_refused(client: Client, task: str) -> bool:
    """Whether the client refuses a call because the broker has blocked publishing."""
    try:
        client.call(task).cancel()
    except crew.Overloaded:
        return True
    return False


def freeze(node: Node, seconds: float) -> None:
    """Freeze the node for this many seconds."""
    pid = node.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)

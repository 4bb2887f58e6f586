"""A broker that dies, restarts, freezes or runs short loses nobody a call, and is used again as soon as it is back."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from crew import Client
from crew.cli.node import Node
from tests.broker import leashed
from tests.integration.conftest import TASKS
from tests.integration.outage import Outage
from tests.processes import Process, running

HEARTBEAT = 2  # seconds
SHORT = 0.8  # seconds: less than a heartbeat
LONG = 5.0  # seconds: more than two

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that may be stopped and killed."""
    with leashed(tmp_path_factory.mktemp("own")) as node:
        yield node


@pytest.fixture(scope="module")
def worker(own_node: Node, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str) -> Iterator[Process]:
    """A worker in threads, which lives through all of it."""
    environment = {
        "CREW_AMQP_URL": own_node.url,
        "CREW_TEST_PREFIX": shared_prefix,
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(TASKS, "--threads", "4").says("serving")


@pytest.fixture
def outage(
    own_node: Node,
    worker: Process,
    shared_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Callable[[Client], Outage]:
    """An outage, as the client sees it."""
    return lambda client: Outage(client, shared_prefix, worker, caplog)


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one, for clients of this process."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=90)
async def test_a_broker_that_is_killed_or_restarted_loses_no_call(
    own_node: Node, outage: Callable[[Client], Outage]
) -> None:
    async with Client(own_node.url) as client:
        through = outage(client)
        await through.begin()
        await through.through(own_node.kill, own_node.start, is_away=True)
        await through.through(own_node.stop, own_node.start, is_away=True)


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=60)
async def test_a_broker_that_freezes_for_less_than_a_heartbeat_is_waited_for(
    own_node: Node, outage: Callable[[Client], Outage], worker: Process
) -> None:
    said = worker.from_now()
    async with Client(own_node.url) as client:
        through = outage(client)
        await through.begin()
        await through.through(lambda: freeze(own_node, SHORT), loses=False)
    assert "next attempt" not in said.output


@pytest.mark.usefixtures("heartbeat")
@pytest.mark.gen_test(timeout=60)
async def test_a_broker_that_freezes_for_long_is_given_up_and_used_when_it_wakes(
    own_node: Node, outage: Callable[[Client], Outage], worker: Process
) -> None:
    said = worker.from_now()
    async with Client(own_node.url) as client:
        through = outage(client)
        await through.begin()
        await through.through(lambda: freeze(own_node, LONG))
    assert "the broker has been silent for 3 s" in said.output


def freeze(node: Node, seconds: float) -> None:
    """Stop the node, all of it, for so long."""
    pid = node.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)

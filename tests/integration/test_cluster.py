"""A cluster of three nodes that crash, freeze and restart under load loses no call with quorum queues."""

import asyncio
import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from crew import Client
from crew.cli.broker.node import Node
from crew.errors import CrewError
from tests.support.cluster import Cluster, clustered
from tests.support.cluster_probe import Probe
from tests.support.load import IN_FLIGHT, Load
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, running
from tests.support.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.alone]

TASKS = TASK_FOLDER / "tasks.py"
PREFIX = "cluster."
QUEUE = f"crew.tasks.{PREFIX}note"
HEARTBEAT = 2  # seconds; a frozen node is detected after 1.5 heartbeats
BACK_WITHIN = 2.0  # seconds from when the cluster serves again to the first call that returns
SERVES_WITHIN = 20.0  # seconds from a fault until the cluster has detected it and elected leaders
WHOLE_WITHIN = 90.0  # seconds until a node that was cut off has restarted itself, on a busy machine
WARM = 100  # calls that return before the fault
# Calls that may run twice for one fault: those in flight when their worker, or its replies, lost the connection.
DUPLICATES = 2 * IN_FLIGHT

RUNNING_NODES = "length(rabbit_nodes:all_running())."

T = TypeVar("T")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes; every test leaves them running."""
    with clustered(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def workers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two workers with the addresses of all three nodes."""
    environment = {
        "CREW_AMQP_URL": cluster.url,
        "CREW_TEST_PREFIX": PREFIX,
        "CREW_QUEUE_TYPE": "quorum",
        "CREW_HEARTBEAT": str(HEARTBEAT),
    }
    with running(tmp_path_factory.mktemp("workers"), environment) as processes:
        workers = [processes.python(TASKS) for _ in range(2)]
        yield [worker.says("serving") for worker in workers]


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat of the workers, for clients of this process."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))


@pytest.mark.gen_test(timeout=90)
async def test_no_call_is_lost_if_the_leader_of_its_queue_crashes(cluster: Cluster, workers: list[Process]) -> None:
    async with calling(cluster, workers) as (client, load):
        node = await in_thread(cluster.leader, QUEUE)
        with Probe(cluster, node, queues_of(client)) as probe:
            async with killed(node):
                probe.on_lost()
                await back_in_time(load, probe)


@pytest.mark.gen_test(timeout=90)
async def test_no_call_is_lost_if_the_node_that_its_client_is_connected_to_crashes(
    cluster: Cluster, workers: list[Process]
) -> None:
    async with calling(cluster, workers) as (client, load):
        node = node_of(cluster, client)
        with Probe(cluster, node, queues_of(client)) as probe:
            async with killed(node):
                probe.on_lost()
                await back_in_time(load, probe)


@pytest.mark.timeout(240)
@pytest.mark.gen_test(timeout=200)
async def test_no_call_is_lost_while_one_node_is_frozen_and_after_it_returns(
    cluster: Cluster, workers: list[Process]
) -> None:
    async with calling(cluster, workers) as (client, load):
        node = await in_thread(cluster.leader, QUEUE)
        with Probe(cluster, node, queues_of(client)) as probe, cluster.frozen(node):
            probe.on_lost()
            await back_in_time(load, probe)
        await in_thread(until_all_nodes_run, cluster)
        returned = time.monotonic()
        await until(functools.partial(load.first_after, returned), timeout=SERVES_WITHIN)


@pytest.mark.gen_test(timeout=120)
async def test_no_call_is_lost_in_a_rolling_restart_of_the_cluster(cluster: Cluster, workers: list[Process]) -> None:
    async with calling(cluster, workers) as (_, load):
        for node in cluster.nodes:
            await in_thread(node.stop)
            stopped = time.monotonic()
            await until(functools.partial(load.first_after, stopped), timeout=SERVES_WITHIN)
            await in_thread(node.start)


@pytest.mark.gen_test(timeout=60)
async def test_a_classic_queue_on_a_node_that_is_down_is_logged_with_a_solution(
    cluster: Cluster, tmp_path: Path
) -> None:
    environment = {"CREW_AMQP_URL": cluster.url, "CREW_TEST_PREFIX": "classic."}
    with running(tmp_path, environment) as processes:
        worker = processes.python(TASKS).says("serving")
        node = await in_thread(cluster.leader, "crew.tasks.classic.note")
        async with killed(node):
            line = r"queue crew\.\S+ is not available: its only node crew\d@localhost is down; .*CREW_QUEUE_TYPE=quorum"
            await until(lambda: re.search(line, worker.output))
            logged = time.monotonic()
            await until(lambda: time.monotonic() - logged > 3)
            # Each reason is logged once, and then every 30 s; it contains the node that reported it.
            assert len(re.findall(line, worker.output)) <= 6
        worker.says("serving", times=2)


# --- steps -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def calling(cluster: Cluster, workers: list[Process]) -> AsyncIterator[tuple[Client, Load]]:
    """Keeps calls in flight during the block, and checks that none is lost."""
    async with Client(cluster.url, queue_type="quorum") as client:
        load, seen = Load(client, PREFIX), [len(worker.output) for worker in workers]
        await until(lambda: len(load.answered) >= WARM, timeout=SERVES_WITHIN)
        try:
            yield client, load
            await load.end()
        finally:
            new = [worker.output[start:] for worker, start in zip(workers, seen, strict=True)]
            print(*(warning for output in new for warning in re.findall(r".* WARNING .*", output)), sep="\n")
    runs = load.runs(workers)
    again = sum(count - 1 for count in runs.values())
    print(f"{len(load.answered)} calls, {again} of them run twice")
    assert not load.lost(), f"{len(load.lost())} of {len(load.answered)} calls were lost: {load.lost()[:5]}"
    assert min(runs.values()) >= 1
    assert again <= DUPLICATES


async def back_in_time(load: Load, probe: Probe) -> None:
    """Wait until the cluster serves again; a call must return soon after that."""
    serves = await until(lambda: probe.served_at, timeout=SERVES_WITHIN) or 0.0
    first = await until(lambda: load.first_after(probe.began), timeout=SERVES_WITHIN) or 0.0
    queues = ", ".join(f"{queue} {served - probe.began:.2f} s" for queue, served in probe.served.items())
    print(f"served again after: {queues}; a call ended after {first - probe.began:.2f} s")
    assert first - serves < BACK_WITHIN


@asynccontextmanager
async def killed(node: Node) -> AsyncIterator[None]:
    """Kill `node`, and start it after the block."""
    node.kill()
    try:
        yield
    finally:
        await in_thread(node.start)


def queues_of(client: Client) -> list[str]:
    """The queues that the calls of `client` and their replies pass."""
    return [QUEUE, client._caller.queue.name]


def node_of(cluster: Cluster, client: Client) -> Node:
    """The node over which `client` publishes."""
    wire = client._links.publishing._connection
    assert wire is not None
    return next(node for node in cluster.nodes if f":{wire.params.port}/" in node.url)


def until_all_nodes_run(cluster: Cluster) -> None:
    """Wait until all three nodes see each other."""
    deadline, seen = time.monotonic() + WHOLE_WITHIN, []
    while time.monotonic() < deadline:
        try:
            seen = [node.ctl("eval", RUNNING_NODES, timeout=10).strip() for node in cluster.nodes]
        except CrewError:  # a node is restarting itself
            continue
        if seen == ["3"] * 3:
            return
    raise AssertionError(f"the nodes see {seen} of three")


async def in_thread(step: Callable[..., T], *arguments: object) -> T:
    """Run a blocking function in a thread, so that the calls continue."""
    return await asyncio.get_running_loop().run_in_executor(None, step, *arguments)

"""Faults of broker, connections and processes under hundreds of calls: no call is lost and none hangs.

Replay a seed with `CREW_CHAOS_SEED=7 pytest --chaos -s tests/integration/test_storm.py`; CREW_CHAOS_FAULTS names some
faults, with commas between them.
"""

import asyncio
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crew import Client
from crew.cli.broker.node import Node
from tests.support.chaos.storm import IN_FLIGHT, Storm
from tests.support.chaos.storm_faults import FAULTS, HEARTBEAT, Field
from tests.support.chaos.storm_table import Incident, runs_of, shown, table, unexplained
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.proxy import Proxy
from tests.support.waiting import until

WORKER = TASK_FOLDER / "stormy.py"
CHOSEN = [name for name in os.environ.get("CREW_CHAOS_FAULTS", "").split(",") if name] or list(FAULTS)
LASTS = 60.0  # seconds
EVERY = 3.0  # seconds
BACK_WITHIN = 2.0  # seconds after the end of a fault
GROWS = 24.0  # MiB, mostly this test's own record of thousands of calls
SETTLED_WITHIN = 10.0  # seconds until nothing is left in a queue
PREFIX = "storm."
PROCESSES = 2
FLAGS = ("--processes", str(PROCESSES), "--threads", "12")


@pytest.mark.chaos
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.gen_test(timeout=280)
async def test_no_call_is_lost_or_hangs_while_brokers_connections_and_processes_die(
    field: Field, client: Client, record: Path
) -> None:
    dice = random.Random(seed := int(os.environ.get("CREW_CHAOS_SEED", "1")))
    storm = Storm(client, dice, prefix=PREFIX)
    async with client:
        blowing = asyncio.create_task(storm.blow())
        await until(lambda: len(storm.in_flight) == IN_FLIGHT and len(storm.ended) > IN_FLIGHT, timeout=30)
        before, threads = _rss(), _threads()
        try:
            incidents = await _inject_faults(field, storm, dice)
            after = _rss()
        finally:
            storm.calm()
            await blowing
        assert len(client._calls) == 0
        assert _threads() <= threads
    runs = runs_of(record)
    rows = table(incidents, storm.ended, runs)
    refused = Counter(type(flight.error).__name__ for flight in storm.ended if flight.was_refused) + storm.refused
    print(f"seed {seed}: {len(storm.ended)} calls, refused: {dict(refused)}, RSS {after - before:+.1f} MiB")
    print(shown(rows))
    for flight in storm.ended:
        assert flight.answers == 1, f"the callback of {flight} ran {flight.answers} times"
        assert flight.error is not None or flight.id in runs, f"{flight} has a value and never ran"
    lost = [flight for flight in storm.ended if flight.error and not flight.was_refused]
    assert sum(row.lost for row in rows) == 0, "\n".join(map(repr, lost))
    assert not unexplained(incidents, storm.ended, runs)
    assert max(row.worst_recovery for row in rows) < BACK_WITHIN
    assert {row.fault for row in rows} == set(CHOSEN)
    assert after - before < GROWS
    await until(lambda: _is_empty(field), timeout=SETTLED_WITHIN)
    assert not [worker.output for worker in field.workers if "Traceback" in worker.own_output]


# --- broker, proxies, client and workers -----------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """File in which the tasks record their starts."""
    return tmp_path / "record"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A broker for this test only, since it is killed."""
    node = Node(tmp_path / "node")
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture
def near(node: Node) -> Iterator[Proxy]:
    """Proxy between the client and the broker."""
    with closing(Proxy(node.url)) as proxy:
        yield proxy


@pytest.fixture
def far(node: Node) -> Iterator[Proxy]:
    """Proxy between the workers and the broker."""
    with closing(Proxy(node.url)) as proxy:
        yield proxy


@pytest.fixture
def client(near: Proxy, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that is not connected yet."""
    monkeypatch.setenv("CREW_HEARTBEAT", str(HEARTBEAT))
    return Client(near.url)


@pytest.fixture
def stormy(tmp_path: Path, far: Proxy, record: Path) -> Iterator[Processes]:
    """Processes that end with the test."""
    environment = {
        "CREW_AMQP_URL": far.url,
        "CREW_HEARTBEAT": str(HEARTBEAT),
        "CREW_TEST_PREFIX": PREFIX,
        "CREW_STORM_RECORD": str(record),
    }
    with running(tmp_path, environment) as processes:
        yield processes


@pytest.fixture
def field(node: Node, near: Proxy, far: Proxy, client: Client, stormy: Processes) -> Field:
    """Targets of the faults: broker, proxies, client and two workers that serve."""

    def start_worker() -> Process:
        return stormy.python(WORKER, *FLAGS).says("serving", times=PROCESSES)

    return Field(
        node=node,
        near=near,
        far=far,
        workers=[start_worker(), start_worker()],
        start_worker=start_worker,
        tasks=[PREFIX + "nap", PREFIX + "work"],
        client=client.id,
    )


# --- steps -----------------------------------------------------------------------------------------------------------


async def _inject_faults(field: Field, storm: Storm, dice: random.Random) -> list[Incident]:
    """Inject faults one after another in random order, each kind at least once."""
    incidents: list[Incident] = []
    names = dice.sample(CHOSEN, len(CHOSEN))
    begun = time.monotonic()
    while names or time.monotonic() - begun < LASTS:
        name = names.pop() if names else dice.choice(CHOSEN)
        incident = Incident(fault=name, began=time.monotonic())
        incidents.append(incident)
        await FAULTS[name].inject(field)
        incident.ended = time.monotonic()
        incident.recovered = await storm.first_value()
        print(f"{name}: {incident.ended - incident.began:.1f} s, back in {incident.recovered:.2f} s", flush=True)
        await asyncio.sleep(max(0.0, incident.began + EVERY - time.monotonic()))  # the interval between faults
    return incidents


def _is_empty(field: Field) -> bool:
    """Whether the task queues have no message, ready or unacknowledged."""
    listed = field.node.ctl("list_queues", "name", "messages").splitlines()
    return {f"crew.tasks.{task}\t0" for task in field.tasks} <= {*listed}


def _threads() -> set[str]:
    """Names of this process's threads, without those of `asyncio.to_thread`."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def _rss() -> float:
    """Memory of this process in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

"""Tasks that run longer than the broker lets a delivery stay unacknowledged: with `long=True` once, else told."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crew
from crew import Client
from crew.cli.node import Node
from tests.broker import LEASH
from tests.processes import Process, Processes
from tests.waiting import until

pytestmark = pytest.mark.chaos

DYING = Path(__file__).with_name("dying.py")
# Milliseconds: how long a delivery may stay unacknowledged (half an hour by default), and how often that is looked at.
PATIENCE = "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}].\n"
OVERSTAYS = 6.0  # seconds: the broker has taken an unacknowledged delivery back by then, for sure


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One that soon takes back what is not acknowledged."""
    folder = tmp_path_factory.mktemp("impatient")
    (folder / "advanced.config").write_text(PATIENCE)
    node = Node(folder)
    with subprocess.Popen([sys.executable, "-c", LEASH, folder], stdin=subprocess.PIPE, start_new_session=True):
        node.start()
        yield node
        node.kill()


@pytest.fixture
def broker_url(node: Node) -> str:
    """Of the impatient node."""
    return node.url


def starts(*workers: Process, id: str) -> int:
    """How often the call `id` was run."""
    return sum(worker.output.count(f"STARTED {id} ") for worker in workers)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "4")], ids=["main lane", "thread lane"])
async def test_a_long_task_outlasts_the_brokers_patience_and_runs_once(
    broker_url: str, prefix: str, processes: Processes, flags: tuple[str, ...]
) -> None:
    workers = [processes.python(DYING, *flags).says("serving") for _ in range(2)]
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "long", OVERSTAYS, expiration=40, persistent=persistent) for persistent in (1, 0)]
        pids = [await call for call in calls]
        assert await client.call(prefix + "who")
    assert [starts(*workers, id=call.id) for call in calls] == [1, 1]
    assert len(pids) == 2
    for worker in workers:
        assert "acknowledgement" not in worker.output
        assert worker.output.count("serving") == 1, "nobody has lost his connection"

"""Tasks that run longer than the broker's acknowledgement timeout, with and without `long=True`."""

import asyncio
import re
import time
from collections.abc import Iterator

import pytest

from crew import Client
from crew.cli.broker.node import Node
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.shared_node import used_node
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

DYING = TASK_FOLDER / "dying.py"
# Milliseconds: how long a delivery may stay unacknowledged (by default half an hour), and the interval of the check.
CONFIGURATION = "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}].\n"
TOO_LONG = 6.0  # seconds: the broker requeues an unacknowledged delivery before that


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a short acknowledgement timeout."""
    folder = tmp_path_factory.mktemp("impatient")
    (folder / "advanced.config").write_text(CONFIGURATION)
    with used_node(folder) as node:
        yield node


@pytest.fixture
def broker_url(node: Node) -> str:
    """URL of that node."""
    return node.url


def starts(*workers: Process, id: str) -> int:
    """Count how often the call `id` ran."""
    return sum(worker.output.count(f"STARTED {id} ") for worker in workers)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "4")], ids=["main thread", "threads"])
async def test_a_long_task_may_exceed_the_acknowledgement_timeout_and_runs_once(
    broker_url: str, prefix: str, processes: Processes, flags: tuple[str, ...]
) -> None:
    workers = [processes.python(DYING, *flags).says("serving") for _ in range(2)]
    async with Client(broker_url) as client:
        calls = [
            client.call(prefix + "long", TOO_LONG, expiration=40, persistent=persistent) for persistent in (True, False)
        ]
        pids = [await call for call in calls]
        assert await client.call(prefix + "who")
    assert [starts(*workers, id=call.id) for call in calls] == [1, 1]
    assert len(pids) == 2
    for worker in workers:
        assert "acknowledgement" not in worker.output
        assert worker.output.count("serving") == 1, "no connection was lost"


@pytest.mark.gen_test(timeout=60)
async def test_a_task_that_exceeds_the_acknowledgement_timeout_is_logged_and_still_replies(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    worker = processes.python(DYING, "--threads", "2").says("serving")
    async with Client(broker_url) as client:
        call = client.call(prefix + "sleep", TOO_LONG, expiration=40)
        while not call.done():
            assert await client.call(prefix + "who", expiration=10), "other calls run"
            await asyncio.sleep(0.05)
        assert await call == await client.call(prefix + "who")
    assert starts(worker, id=call.id) == 1
    assert f"write @Task('{prefix}sleep', long=True), or set a smaller timeout" in worker.output
    assert re.search(rf"call_id={call.id} task={prefix}sleep running=[3-6] broker_timeout=3\b", worker.output)


def unacknowledged(node: Node, prefix: str) -> int:
    """Number of unacknowledged deliveries."""
    rows = node.ctl("list_queues", "name", "messages_unacknowledged").splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(f"crew.tasks.{prefix}"))


@pytest.mark.gen_test(timeout=60)
async def test_calls_behind_a_long_task_run_elsewhere(
    node: Node, broker_url: str, prefix: str, processes: Processes
) -> None:
    busy = processes.python(DYING).says("serving")
    async with Client(broker_url) as client:
        long = client.call(prefix + "long", 40, expiration=50)
        await until(lambda: starts(busy, id=long.id))
        waiting = [client.call(prefix + task, 0.01, expiration=40) for task in ("long", "sleep") * 5]
        began = time.monotonic()
        while (held := await asyncio.to_thread(unacknowledged, node, prefix)) and time.monotonic() < began + 3:
            await asyncio.sleep(0.1)
        assert not held
        other = processes.python(DYING).says("serving")
        pids = {await call for call in waiting}
        assert not long.done()
        assert len(pids) == 1
        assert all(starts(other, id=call.id) == 1 for call in waiting)
        long.cancel()

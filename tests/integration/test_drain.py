"""A worker that is stopped under load finishes its running calls, or leaves them to other workers."""

import asyncio
import os
import re
import signal
from collections import Counter
from typing import Any

import pytest

import crew
from crew import Client
from crew.client.calling.call import PendingCall
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

DYING = TASK_FOLDER / "dying.py"
IN_FLIGHT = 50  # calls


class Load:
    """A client that always has `IN_FLIGHT` calls of `task` in flight.

    Attributes:
        ids: of all calls.
        failures: errors of the calls that did not return.
    """

    def __init__(self, client: Client, task: str, seconds: float) -> None:
        self.ids: list[str] = []
        self.failures: list[BaseException] = []
        self.returned = 0
        self._client = client
        self._task = task
        self._seconds = seconds
        self._ends = False
        self._callers = [asyncio.ensure_future(self._call_on()) for _ in range(IN_FLIGHT)]

    async def more(self, count: int) -> None:
        """Wait until `count` more calls have returned."""
        enough = self.returned + count
        await until(lambda: self.returned >= enough or self.failures, timeout=30)

    async def end(self) -> None:
        """Make no more calls, and wait for the pending ones."""
        self._ends = True
        await asyncio.gather(*self._callers)

    async def _call_on(self) -> None:
        while not self._ends:
            call = self._client.call(self._task, self._seconds, expiration=30)
            self.ids.append(call.id)
            try:
                await call
                self.returned += 1
            except crew.CrewError as error:
                self.failures.append(error)


def starts(*workers: Process) -> Counter[str]:
    """Count how often each call ran."""
    return Counter(id for worker in workers for id in re.findall(r"^STARTED (\S+) ", worker.output, re.MULTILINE))


def start(processes: Processes, *flags: str, count: int = 1) -> Process:
    """Start another worker and wait until it serves."""
    return processes.python(DYING, *flags).says("serving", times=count)


async def has_begun(worker: Process, call: PendingCall[Any]) -> None:
    """Wait until `worker` runs the call."""
    await until(lambda: starts(worker)[call.id], timeout=10)


# --- under load -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_that_is_stopped_under_load_loses_no_call_and_none_runs_twice(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    stopped, other = start(processes, "--threads", "3"), start(processes, "--threads", "3")
    async with Client(broker_url) as client:
        load = Load(client, prefix + "sleep", 0.03)
        await load.more(50)
        os.kill(stopped.pid, signal.SIGTERM)
        await load.more(100)
        await load.end()
    assert stopped.ends(timeout=10) == 0
    assert load.failures == []
    assert starts(stopped, other) == dict.fromkeys(load.ids, 1)


@pytest.mark.gen_test(timeout=60)
async def test_a_reload_under_load_loses_no_call_and_none_runs_twice(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    worker = start(processes, "--processes", "2", "--threads", "2", count=2)
    async with Client(broker_url) as client:
        load = Load(client, prefix + "sleep", 0.06)
        await load.more(50)
        os.kill(worker.pid, signal.SIGHUP)
        await until(lambda: worker.output.count("draining") == 2, timeout=30)
        await load.more(50)
        await load.end()
    assert worker.output.count("serving") == 4
    assert load.failures == []
    assert starts(worker) == dict.fromkeys(load.ids, 1)


@pytest.mark.gen_test(timeout=60)
async def test_a_second_sigterm_under_load_loses_no_call_and_interrupted_calls_run_elsewhere(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    stopped = start(processes, "--threads", "3")
    async with Client(broker_url) as client:
        slow = [client.call(prefix + "sleep", 1.5, expiration=30) for _ in range(2)]
        for call in slow:
            await has_begun(stopped, call)
        load = Load(client, prefix + "sleep", 0.03)
        await load.more(5)
        os.kill(stopped.pid, signal.SIGTERM)
        await until(lambda: "draining" in stopped.output)
        os.kill(stopped.pid, signal.SIGTERM)
        assert await asyncio.to_thread(stopped.ends, 10) == 0
        other = start(processes, "--threads", "3")
        await load.end()
        assert {await call for call in slow}, "they have run on the other worker"
    assert load.failures == []
    assert [starts(stopped, other)[call.id] for call in slow] == [2, 2]
    assert set(load.ids) <= set(starts(stopped, other))


# --- long tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_a_task_that_exceeds_the_drain_time_runs_elsewhere_as_the_same_attempt(
    broker_url: str, prefix: str, processes: Processes, flags: tuple[str, ...]
) -> None:
    stopped = start(processes, "--drain", "0.1", *flags)
    async with Client(broker_url) as client:
        call = client.call(prefix + "long.naps", 1.0, expiration=30)
        await has_begun(stopped, call)
        assert await asyncio.to_thread(stopped.stop) == 0
        other = start(processes)
        await call
    assert f"INTERRUPTED {call.id} drain" in stopped.output
    assert (starts(stopped)[call.id], starts(other)[call.id]) == (1, 1)
    assert f"STARTED {call.id} 1" in other.output


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    ("task", "persistent", "reason"),
    [("long.naps", False, "is not persistent and is not retried"), ("long.stubborn", True, "was stopped while it ran")],
    ids=["not persistent", "runs on after its interrupt"],
)
async def test_the_caller_of_a_long_task_that_cannot_run_elsewhere_gets_worker_lost(
    broker_url: str, prefix: str, processes: Processes, task: str, persistent: bool, reason: str
) -> None:
    stopped = start(processes, "--drain", "0.1", "--grace", "0.3")
    async with Client(broker_url) as client:
        call = client.call(prefix + task, 20, persistent=persistent, expiration=30)
        await has_begun(stopped, call)
        os.kill(stopped.pid, signal.SIGTERM)
        with pytest.raises(crew.WorkerLost, match=reason):
            await call
        assert await asyncio.to_thread(stopped.ends, 10) == 0
    assert starts(stopped)[call.id] == 1

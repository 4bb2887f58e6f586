"""Processes that a task forks, and programs that it starts, behave as in any Python process."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import Client
from tests.integration.conftest import TASKS
from tests.support.processes import Process, Processes, running
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of a process are read from /proc")

SCRIPT = TASKS.with_name("forking.py")
EXECUTORS = {"main": (), "threads": ("--threads", "2")}
NO_SIGNALS = "0000000000000000"
DIED_OF_SIGTERM = -signal.SIGTERM
REDELIVERED_WITHIN = 2.0  # seconds on a busy machine; the broker notices a silent connection after 20 s at least


@pytest.fixture(params=EXECUTORS, scope="module")
def worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str
) -> Iterator[Process]:
    """One worker for all tests, in each executor."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("forking"), environment) as processes:
        yield processes.python(SCRIPT, *EXECUTORS[request.param]).says("serving")


@pytest.mark.gen_test(timeout=60)
async def test_a_program_that_a_task_starts_blocks_and_ignores_no_signals(
    broker_url: str, shared_prefix: str, worker: Process
) -> None:
    async with Client(broker_url) as client:
        for name in ("signals", "async signals", "signals of a child"):
            blocked, ignored = await client.call(shared_prefix + name)
            assert blocked == NO_SIGNALS, name
            assert int(ignored, 16) & ~_ignored_here() == 0, name


@pytest.mark.gen_test(timeout=60)
async def test_a_program_that_a_main_thread_coroutine_starts_blocks_and_ignores_no_signals(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    processes.python(SCRIPT, environment={"ONLY_ASYNC": "1"}).says("serving 1 task")
    async with Client(broker_url) as client:
        blocked, ignored = await client.call(prefix + "async signals")
    assert (blocked, int(ignored, 16) & ~_ignored_here()) == (NO_SIGNALS, 0)


@pytest.mark.gen_test(timeout=60)
async def test_a_child_that_a_task_terminates_ends(broker_url: str, shared_prefix: str, worker: Process) -> None:
    """Also if the signal arrives before the child has run any code."""
    async with Client(broker_url) as client:
        assert await client.call(shared_prefix + "terminate", 20, expiration=45) == [DIED_OF_SIGTERM] * 20


@pytest.mark.gen_test(timeout=60)
async def test_a_pool_of_processes_in_a_task_ends(broker_url: str, shared_prefix: str, worker: Process) -> None:
    async with Client(broker_url) as client:
        assert await client.call(shared_prefix + "pool", [-1, -2, -3], expiration=30) == [1, 2, 3]


@pytest.mark.gen_test(timeout=60)
async def test_a_daemon_started_by_a_task_does_not_delay_redelivery_after_a_crash(
    broker_url: str, shared_prefix: str, worker: Process
) -> None:
    recent = worker.from_now()
    async with Client(broker_url) as client:
        call = client.call(shared_prefix + "leave a daemon", 30, expiration=40)
        await until(lambda: "DAEMON" in recent.output)
        daemon, parent = map(int, re.findall(r"DAEMON (\d+) OF (\d+)", recent.output)[0])
        try:
            os.kill(parent, signal.SIGKILL)
            killed = time.monotonic()
            assert await call == 2
            assert time.monotonic() - killed < REDELIVERED_WITHIN
            os.kill(daemon, 0)  # the daemon still runs
        finally:
            os.kill(daemon, signal.SIGKILL)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 3), ("raise", 1)])
async def test_a_forked_child_that_returns_from_the_task_exits_instead_of_serving(
    broker_url: str, shared_prefix: str, worker: Process, how: str, status: int
) -> None:
    recent = worker.from_now()
    async with Client(broker_url) as client:
        assert await client.call(shared_prefix + "return in a child", how, expiration=10) == status
    assert ("ValueError: raised in the child" in recent.output) is (how == "raise")


@pytest.mark.gen_test(timeout=60)
async def test_a_nested_call_from_a_forked_child_is_refused_in_one_sentence(
    broker_url: str, shared_prefix: str, worker: Process
) -> None:
    async with Client(broker_url) as client:
        value = await client.call(shared_prefix + "call in a child", shared_prefix + "signals", expiration=10)
    assert value.startswith("RuntimeError: a process that a task has forked cannot use the connection of its worker")


def _ignored_here() -> int:
    """Signals that this process ignores, as a mask: programs that it starts inherit them, as they would without crew.

    Python ignores SIGPIPE and SIGXFSZ. Under make, glibc's posix_spawn has two signals of its own ignored.
    """
    return int(re.findall(r"SigIgn:\t(\w+)", Path("/proc/self/status").read_text())[0], 16)

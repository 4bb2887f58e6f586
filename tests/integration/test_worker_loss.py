"""Worker processes that die while they run calls."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator

import pytest

import crew
from crew import Client
from tests.support import raw
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

DYING = TASK_FOLDER / "dying.py"
AT_ONCE = 10.0  # seconds, long before the deadline: a process that died often is restarted after 5 s


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """One worker with two processes, for all tests that do not stop it."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:
        yield processes.python(DYING, "--processes", "2").says("serving", times=2)


def starts(worker: Process, id: str) -> int:
    """Count how often the call `id` ran."""
    return worker.output.count(f"STARTED {id} ")


# --- repeated, then parked ------------------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    ("kind", "status"),
    [("segfault", "SIGSEGV"), ("exit", "exit 3"), ("kill", "SIGKILL"), ("real-time signal", "signal 37")],
)
async def test_a_call_that_kills_three_processes_is_parked_with_exit_status_and_host(
    broker_url: str, prefix: str, shared_worker: Process, kind: str, status: str
) -> None:
    raw.parked(broker_url)
    async with Client(broker_url) as client:
        call = client.call(prefix + "die", kind, expiration=40, headers={"tenant": "a"})
        with pytest.raises(crew.WorkerLost) as lost:
            await call
        assert await client.call(prefix + "who")
    how = f"exited with {status[5:]}" if kind == "exit" else f"was killed by {status}"
    assert (
        f"task '{prefix}die': 3 worker processes died while they ran the call; the last {how} on {socket.gethostname()}"
        in str(lost.value)
    )
    assert [f"STARTED {call.id} {n}" in shared_worker.output for n in (1, 2, 3, 4)] == [True, True, True, False]
    ((given, body),) = raw.parked_messages(broker_url)
    headers = given.headers or {}
    assert headers["crew-exit-status"] == status
    assert headers["crew-host"] == socket.gethostname()
    assert "3 worker processes died" in headers["crew-reason"]
    assert (headers["tenant"], headers["crew-task"]) == ("a", prefix + "die")
    assert (given.correlation_id, given.reply_to) == (call.id, f"crew.reply.{client.id}")
    assert body == f'"{kind}"'.encode()


@pytest.mark.gen_test(timeout=60)
async def test_each_worker_counts_the_crashes_of_its_own_processes(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    """With two workers a call crashes at most 2 * 3 processes: the second may get a call that the first has parked."""
    workers = [processes.python(DYING).says("serving") for _ in range(2)]
    raw.parked(broker_url)
    async with Client(broker_url) as client:
        call = client.call(prefix + "die", "exit", expiration=40)
        with pytest.raises(crew.WorkerLost, match="3 worker processes died"):
            await call
    counts = sorted(starts(worker, call.id) for worker in workers)
    assert counts[1] == 3
    assert 0 <= counts[0] <= 3
    assert len(raw.parked_messages(broker_url)) == 1


# --- not repeated ----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(("task", "persistent"), [("die", False), ("die.long", True), ("die.long", False)])
async def test_a_call_that_may_run_only_once_fails_at_once_with_worker_lost(
    broker_url: str, prefix: str, shared_worker: Process, task: str, persistent: bool
) -> None:
    raw.parked(broker_url)
    async with Client(broker_url) as client:
        began = time.monotonic()
        call = client.call(prefix + task, "segfault", persistent=persistent, expiration=40)
        with pytest.raises(crew.WorkerLost, match=f"on {socket.gethostname()} was killed by SIGSEGV"):
            await call
        assert time.monotonic() - began < AT_ONCE
        assert await client.call(prefix + "who")
    assert starts(shared_worker, call.id) == 1
    assert raw.parked(broker_url) == []


@pytest.mark.gen_test(timeout=60)
async def test_each_call_of_a_killed_process_gets_a_reply_or_runs_again(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    worker = processes.python(DYING, "--threads", "6").says("serving")
    async with Client(broker_url) as client:
        pid = await client.call(prefix + "who")
        once = [client.call(prefix + "sleep", 1.5, persistent=False, expiration=40) for _ in range(2)]
        long = [client.call(prefix + "long", 1.5, expiration=40) for _ in range(2)]
        again = [client.call(prefix + "sleep", 1.5, expiration=40) for _ in range(2)]
        await until(lambda: all(starts(worker, call.id) for call in once + long + again))
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        for call in once + long:
            with pytest.raises(crew.WorkerLost, match="was killed by SIGKILL"):
                await call
        assert time.monotonic() - began < AT_ONCE
        assert {await call for call in again} == {await client.call(prefix + "who")}
        assert [starts(worker, call.id) for call in once + long + again] == [1, 1, 1, 1, 2, 2]


@pytest.mark.gen_test(timeout=60)
async def test_a_long_task_that_raises_is_retried(broker_url: str, prefix: str, shared_worker: Process) -> None:
    async with Client(broker_url) as client:
        call = client.call(prefix + "long.tried", expiration=20)
        assert await call == 2
    assert starts(shared_worker, call.id) == 2


@pytest.mark.gen_test(timeout=60)
async def test_a_process_whose_io_thread_is_stalled_is_killed_and_replaced(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    url = f"{broker_url}?heartbeat=1"
    worker = processes.python(DYING, "--url", url).says("serving")
    async with Client(broker_url) as client:
        call = client.call(prefix + "freeze", expiration=120, persistent=False)
        with pytest.raises(crew.WorkerLost, match="was killed by SIGKILL"):
            await call
        assert await client.call(prefix + "who")
    assert re.search(r"worker process stalled, killing it: its I/O thread has not run for [5-9]\.", worker.output)
    assert re.search(r'dying\.py", line \d+ in freeze', worker.output)

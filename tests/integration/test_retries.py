"""Retries of tasks that raise: their delay occupies no worker and survives restarts."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crew
from crew import Client
from crew.cli.broker.node import Node
from tests.support import raw
from tests.support.broker import vhost_of
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Output, Process, Processes, running
from tests.support.waiting import eventually, until

RETRYING = TASK_FOLDER / "retrying.py"
PATIENT, LATER = 5000, 2000  # milliseconds that calls of the tasks `patient` and `later` wait


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """One worker for all tests of the module that do not stop it."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield start(processes)


@pytest.fixture
def worker(shared_worker: Process) -> Output:
    """Output of the shared worker from now on."""
    return shared_worker.from_now()


@pytest.fixture
def own_worker(processes: Processes) -> Process:
    """A worker for this test only."""
    return start(processes)


def start(processes: Processes) -> Process:
    """Start another worker and wait until it serves."""
    return processes.python(RETRYING).says("serving")


def attempts(worker: Process | Output, task: str) -> list[float]:
    """Start times of the executions of `task`."""
    return [float(at) for at in re.findall(rf"^ATTEMPT {task} \d+ (\S+)$", worker.output, re.MULTILINE)]


# --- result of a retried call ---------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("persistent", [True, False])
async def test_a_call_succeeds_on_a_later_attempt(
    broker_url: str, prefix: str, worker: Output, persistent: bool
) -> None:
    async with Client(broker_url) as client:
        value = await client.call(prefix + "flaky", 3, persistent=persistent, expiration=10)
    assert value["attempt"] == 3
    first, second, third = attempts(worker, "flaky")
    assert second - first >= 0.3
    assert third - second >= 0.6


@pytest.mark.gen_test
async def test_each_of_many_calls_that_fail_together_is_retried(broker_url: str, prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "flaky", 2, expiration=20) for _ in range(300)]
        assert [(await call)["attempt"] for call in calls] == [2] * 300
    assert len(attempts(worker, "flaky")) == 600


@pytest.mark.gen_test
async def test_the_last_failure_names_the_number_of_attempts(broker_url: str, prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskFailed) as failed:
            await client.call(prefix + "flaky", 9, expiration=20)
    assert str(failed.value) == "OSError: attempt 4 fails (attempt 4 of 4)"
    assert (failed.value.attempts, failed.value.retryable) == (4, True)
    assert len(attempts(worker, "flaky")) == 4


@pytest.mark.gen_test
async def test_no_call_is_retried_beyond_its_deadline(broker_url: str, prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TaskFailed, match=r"attempt 1 of 2; no time for another") as failed:
            await client.call(prefix + "later", 2, expiration=1.9)
        assert time.monotonic() - began < 1.9
    assert (failed.value.attempts, failed.value.retryable) == (1, True)


@pytest.mark.gen_test
async def test_an_exception_that_is_not_retryable_fails_at_once(broker_url: str, prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskFailed, match="KeyError") as failed:
            await client.call(prefix + "other", 2)
    assert str(failed.value) == "KeyError: 'attempt 1 fails'"
    assert (failed.value.attempts, failed.value.retryable) == (1, False)


@pytest.mark.gen_test
async def test_an_interrupted_task_is_not_retried(broker_url: str, prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "slow", 10, timeout=0.2, expiration=3)
        assert await client.call(prefix + "echo", "next") == "next"
    assert worker.output.count("SLOW") == 1


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(("kills", "outcome"), [(2, 4), (3, crew.WorkerLost)])
async def test_crashes_are_counted_separately_from_retries(
    broker_url: str, prefix: str, worker: Output, kills: int, outcome: object
) -> None:
    """The call has one retry, and may still crash three processes."""
    async with Client(broker_url) as client:
        call = client.call(prefix + "fragile", kills)
        if outcome is crew.WorkerLost:
            with pytest.raises(crew.WorkerLost, match="3 worker processes"):
                await call
        else:
            assert (await call)["attempt"] == outcome
    assert worker.output.count("it exited with 1 pid=") == kills
    raw.parked(broker_url)


# --- during the delay ------------------------------------------------------------------------------------------------


@pytest.mark.chaos  # it takes five seconds, and rabbitmqctl may take as long on a busy machine
@pytest.mark.gen_test
async def test_a_call_that_waits_for_its_retry_holds_no_slot_and_no_delivery(
    broker_url: str, prefix: str, node: Node, worker: Output
) -> None:
    async with Client(broker_url) as client:
        call = client.call(prefix + "patient", 2)
        await until(lambda: _waiting(broker_url, PATIENT) == 1)
        assert await client.call(prefix + "echo", "meanwhile", expiration=3) == "meanwhile"
        waiting = f"crew.retry.{PATIENT}"
        queues = {
            line.split("\t")[0]: line for line in node.ctl(*_LIST_QUEUES, "-p", vhost_of(broker_url)).splitlines()
        }
        assert queues[waiting].split("\t")[1:3] == ["1", "0"]
        assert queues[f"crew.tasks.{prefix}patient"].split("\t")[1:3] == ["0", "0"]
        assert '{"x-expires",605000}' in queues[waiting]
        assert (await call)["attempt"] == 2
    first, second = attempts(worker, "patient")
    assert second - first >= PATIENT / 1000


@pytest.mark.gen_test(timeout=60)
async def test_a_killed_worker_loses_no_retry(
    broker_url: str, prefix: str, processes: Processes, own_worker: Process
) -> None:
    async with Client(broker_url) as client:
        call = client.call(prefix + "later", 2)
        await until(lambda: _waiting(broker_url, LATER) == 1)
        _kill_with_child(own_worker)
        second = start(processes)
        assert (await call)["attempt"] == 2
    assert [len(attempts(one, "later")) for one in (own_worker, second)] == [1, 1]


@pytest.mark.gen_test(timeout=60)
async def test_a_retry_that_the_broker_dead_letters_fails_with_the_reason(
    broker_url: str, prefix: str, processes: Processes, own_worker: Process
) -> None:
    """The delay queue has already dead-lettered the message once."""
    async with Client(broker_url) as client:
        call = client.call(prefix + "later", 2)
        await until(lambda: _waiting(broker_url, LATER) == 1)
        assert own_worker.stop() == 0
        with raw.channel(broker_url) as channel:
            queue = f"crew.tasks.{prefix}later"
            method, _, _ = eventually(lambda: _taken(channel, queue), timeout=10)
            channel.basic_reject(method.delivery_tag, requeue=False)
        with pytest.raises(crew.TaskError, match=r"dead-lettered call .*: rejected"):
            await call


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    """A node for this test only, which may be restarted."""
    node = Node(tmp_path / "broker")
    node.start()
    yield node
    node.stop()


@pytest.mark.chaos
@pytest.mark.gen_test(timeout=110)
async def test_a_restart_of_the_broker_loses_no_retry(own_node: Node, tmp_path: Path) -> None:
    with running(tmp_path, {"CREW_AMQP_URL": own_node.url}, preloaded=True) as processes:
        worker = start(processes)
        async with Client(own_node.url) as client:
            call = client.call("later", 2, expiration=90)
            await until(lambda: _waiting(own_node.url, LATER) == 1)
            own_node.stop()
            own_node.start()
            assert (await call)["attempt"] == 2
        assert len(attempts(worker, "later")) == 2


_LIST_QUEUES = ("list_queues", "name", "messages_ready", "messages_unacknowledged", "arguments")


def _waiting(url: str, delay: int) -> int:
    """Number of calls that wait in the queue of this delay (milliseconds)."""
    with raw.channel(url) as channel:
        queue = channel.queue_declare(
            f"crew.retry.{delay}",
            durable=True,
            arguments={"x-message-ttl": delay, "x-dead-letter-exchange": "", "x-expires": 600_000 + delay},
        )
        return int(queue.method.message_count)


def _kill_with_child(worker: Process) -> None:
    child = int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text())
    worker.kill()
    os.kill(child, signal.SIGKILL)


def _taken(channel: Any, queue: str) -> Any:
    """Next message of the queue, or None."""
    taken = channel.basic_get(queue)
    return taken if taken[0] is not None else None

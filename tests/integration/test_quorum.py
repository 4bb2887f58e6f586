"""Differences of quorum queues, with any supported version of RabbitMQ."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from crew import Client
from crew.protocol import topology
from crew.protocol.topology import Queue
from tests.support.paths import TASK_FOLDER
from tests.support.processes import Process, Processes, running
from tests.support.waiting import eventually, until

TASKS = TASK_FOLDER / "tasks.py"
REQUEUES = 25  # RabbitMQ 4 discards a message after 20 by default


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """Virtual host without classic queues: `crew.parked` is shared by all workers of a virtual host."""
    return vhost_url()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """One worker with quorum queues for all tests of the module that do not stop it."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield processes.python(TASKS, "--queue-type", "quorum").says("serving")


@pytest.fixture
def connection(broker_url: str) -> Iterator[pika.BlockingConnection]:
    """A connection that does not use crew."""
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        yield connection


def version(connection: pika.BlockingConnection) -> tuple[int, int]:
    """Version of the broker, for example (3, 10)."""
    major, minor, *_ = connection._impl.server_properties["version"].split(".")
    return int(major), int(minor)


def declare(connection: pika.BlockingConnection, task: str) -> str:
    """Declare the quorum queue of `task`, as a worker does; returns its name."""
    queue = topology.of_type(topology.task_queue(task), "quorum")
    assert isinstance(queue, Queue)
    connection.channel().queue_declare(queue.name, durable=True, arguments=queue.arguments)
    return queue.name


@pytest.mark.gen_test(timeout=20)
async def test_calls_events_and_cancellations_work_with_quorum_queues(
    broker_url: str, shared_prefix: str, worker: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="crew")
    payloads: list[object] = []
    async with Client(broker_url, queue_type="quorum") as client:
        await client.subscribe(shared_prefix + "news", lambda event: payloads.append(event.payload)).ready()
        assert await client.call(shared_prefix + "echo", {"a": 1}) == {"a": 1}
        await client.call(shared_prefix + "publish", {"topic": shared_prefix + "news", "message": "hello"})
        await until(lambda: payloads == ["hello"])
        call = client.call(shared_prefix + "hang", "time.sleep")
        await until(lambda: call.has_started)
        call.cancel()
        await until(lambda: "INTERRUPTED [time.sleep] canceled" in worker.output)
    assert not caplog.records  # no warning that a queue exists with other arguments
    assert "exists with other arguments" not in worker.output


@pytest.mark.gen_test(timeout=20)
async def test_a_call_that_was_requeued_many_times_still_runs(
    broker_url: str, connection: pika.BlockingConnection, prefix: str, processes: Processes
) -> None:
    queue = declare(connection, prefix + "echo")
    async with Client(broker_url, queue_type="quorum") as client:
        call = client.call(prefix + "echo", "at last")
        await asyncio.to_thread(requeue, connection, queue)
        processes.python(TASKS, "--queue-type", "quorum")
        assert await call == "at last"


def requeue(connection: pika.BlockingConnection, queue: str) -> None:
    """Requeue the first message many times: rejected by a busy worker, or because a channel closes."""
    for count in range(REQUEUES):
        channel = connection.channel()
        method, *_ = eventually(lambda channel=channel: _got(channel, queue))  # type: ignore[misc]
        if count % 2:
            channel.basic_nack(method.delivery_tag, requeue=True)
        channel.close()


def _got(channel: pika.channel.Channel, queue: str) -> tuple[Any, ...]:
    got = channel.basic_get(queue)
    return got if got[0] is not None else ()


@pytest.mark.gen_test(timeout=20)
async def test_priorities_are_those_that_the_rabbitmq_version_supports(
    broker_url: str, connection: pika.BlockingConnection, prefix: str, processes: Processes
) -> None:
    declare(connection, prefix + "note")
    priorities = [0, 255, 60, 200]
    async with Client(broker_url, queue_type="quorum") as client:
        calls = []
        for priority in priorities:  # one after another, so that they are in the queue in this order
            calls.append(client.call(prefix + "note", {"name": str(priority)}, priority=priority))
            await until(lambda: calls[-1].is_confirmed)
        worker = processes.python(TASKS, "--queue-type", "quorum", "--prefetch", "1")
        await asyncio.gather(*calls)
    order = [int(line.split()[1]) for line in worker.output.splitlines() if line.startswith("STARTED ")]
    if version(connection) < (4, 0):
        assert order == priorities
        worker.says("have no priorities")
    elif version(connection) < (4, 3):
        assert sorted(order[:2]) != [0, 60]  # the upper half is served twice as often as the lower
        worker.says("two levels of priority")
    else:
        assert order == sorted(priorities, reverse=True)
        assert "priorit" not in worker.output

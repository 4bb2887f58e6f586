"""Workers with many tasks, whose queues are declared over several channels at once."""

from collections.abc import Iterator

import pytest

from crew import Client
from tests.integration.conftest import StartWorker
from tests.support import raw

COUNT = 50
ODD_ONE = 25


@pytest.fixture
def tasks(broker_url: str, prefix: str) -> Iterator[list[str]]:
    """The names of the tasks of `many.py`, whose queues are deleted at the end."""
    names = [f"{prefix}{number}" for number in range(COUNT)]
    yield names
    with raw.channel(broker_url) as channel:
        for name in names:
            channel.queue_delete(f"crew.tasks.{name}")


@pytest.mark.gen_test(timeout=60)
async def test_one_queue_with_other_arguments_among_fifty_is_one_warning_and_all_tasks_are_served(
    broker_url: str, tasks: list[str], start_worker: StartWorker
) -> None:
    with raw.channel(broker_url) as channel:
        channel.queue_declare(f"crew.tasks.{tasks[ODD_ONE]}", durable=True, arguments={"x-max-priority": 5})
    worker = start_worker("--processes", "2", script="many.py", count=2)
    async with Client(broker_url) as client:
        with client.parallel() as calls:
            for task in tasks:
                calls.call(task)
        assert await calls.result() == tasks
    warnings = [line for line in worker.output.splitlines() if "other arguments" in line]
    assert len(warnings) == 2, "one for each process"
    assert all(f"crew.tasks.{tasks[ODD_ONE]} exists with other arguments" in line for line in warnings)
    assert all(f"`crew queues migrate {tasks[ODD_ONE]}`" in line for line in warnings)


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_with_many_tasks_is_ready_again_after_a_restart(
    broker_url: str, tasks: list[str], start_worker: StartWorker
) -> None:
    start_worker(script="many.py").stop()
    start_worker(script="many.py")
    async with Client(broker_url) as client:
        assert await client.call(tasks[-1]) == tasks[-1]
    with raw.channel(broker_url) as channel:
        queues = [channel.queue_declare(f"crew.tasks.{task}", passive=True).method for task in tasks]
    assert {queue.consumer_count for queue in queues} == {1}

"""What is deleted under us on the broker is there again in a moment, and nothing of ours hangs or loops over it."""

import time
from collections.abc import Callable, Iterator

import pytest

from crew import Client
from tests.integration import raw
from tests.integration.conftest import StartWorker
from tests.processes import Process
from tests.waiting import until

RUNS = 0.5  # seconds that a task takes which runs while something is deleted
BACK_WITHIN = 2.0  # seconds


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """A virtual host of its own: its exchanges are nobody else's."""
    return vhost_url()


@pytest.fixture
def worker(start_worker: StartWorker) -> Process:
    """In threads."""
    return start_worker("--threads", "4")


@pytest.fixture
def delete(broker_url: str) -> Iterator[Callable[[str], None]]:
    """Delete the exchange or the queue of this name."""

    def delete(name: str) -> None:
        kind, _, name = name.partition(" ")
        with raw.channel(broker_url) as channel:
            (channel.exchange_delete if kind == "exchange" else channel.queue_delete)(name)

    yield delete


@pytest.mark.gen_test(timeout=60)
async def test_queues_and_exchanges_that_are_deleted_are_made_again_and_cost_no_running_call(
    broker_url: str, prefix: str, worker: Process, delete: Callable[[str], None]
) -> None:
    async with Client(broker_url) as client:
        queues = [f"crew.tasks.{prefix}echo", f"crew.reply.{client.id}", *_control_queues(broker_url)]
        for name in [*(f"queue {queue}" for queue in queues), "exchange crew.DLX", "exchange crew.retry"]:
            running = [client.call(prefix + "sleep", RUNS, expiration=10) for _ in range(2)]
            await until(lambda: all(call.has_started for call in running))
            delete(name)
            for call in running:
                assert await call == RUNS, name
            began = time.monotonic()
            assert await client.call(prefix + "echo", name, expiration=10) == name
            assert time.monotonic() - began < BACK_WITHIN
    assert "Traceback" not in worker.output


def _control_queues(url: str) -> list[str]:
    return []

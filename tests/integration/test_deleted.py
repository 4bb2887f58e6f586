"""Deleted queues and exchanges are declared again within seconds, and no worker or client hangs or loops."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crew import Client
from crew.settings import Tuning
from tests.integration.conftest import TASKS
from tests.support import raw
from tests.support.processes import Process, running
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

RUNS = 0.3  # seconds of a task that runs while a queue or an exchange is deleted
BACK_WITHIN = 2.0  # seconds
EXCHANGES = ("crew.DLX", "crew.PUBSUB", "crew.control", "crew.retry")


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """URL of a virtual host that only this module uses, because the tests delete its exchanges."""
    return vhost_url()


@pytest.fixture(scope="module")
def worker(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str
) -> Iterator[Callable[[str], Process]]:
    """Starts a worker with threads for a script; there is one per script and module."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:

        @functools.cache
        def start(script: str) -> Process:
            return processes.python(TASKS.with_name(script), "--threads", "4").says("serving")

        yield start


@pytest.fixture
def prefix(shared_prefix: str) -> str:
    """The prefix of the workers' task names."""
    return shared_prefix


@pytest.fixture
def delete(broker_url: str) -> Callable[..., None]:
    """Delete exchanges or queues by name."""

    def delete(*, exchanges: tuple[str, ...] = (), queues: tuple[str, ...] = ()) -> None:
        with raw.channel(broker_url) as channel:
            for name in exchanges:
                channel.exchange_delete(name)
            for name in queues:
                channel.queue_delete(name)

    return delete


@pytest.mark.gen_test(timeout=60)
async def test_a_deleted_queue_or_exchange_loses_no_running_call_and_delays_no_new_one(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    process = worker("tasks.py")
    async with Client(broker_url) as client:
        identity = await client.call(prefix + "who")
        deletions: list[dict[str, Any]] = [
            {"queues": (f"crew.tasks.{prefix}sleep",)},
            {"queues": (f"crew.reply.{client.id}",)},
            {"queues": (f"crew.control.{identity['uuid']}",)},
            *({"exchanges": (name,)} for name in EXCHANGES),
        ]
        for deletion in deletions:
            calls = [client.call(prefix + "sleep", RUNS, expiration=10) for _ in range(2)]
            await until(functools.partial(_have_started, calls))
            delete(**deletion)
            for call in calls:
                assert await call == RUNS, deletion
            began = time.monotonic()
            assert await client.call(prefix + "echo", "after", expiration=10) == "after"
            assert time.monotonic() - began < BACK_WITHIN, deletion
    assert "Traceback" not in process.output
    assert process.output.count("next attempt") <= len(deletions), process.output


@pytest.mark.gen_test(timeout=30)
async def test_a_cancel_into_a_deleted_exchange_loses_no_other_call(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    worker("tasks.py")
    async with Client(broker_url) as client:
        canceled = client.call(prefix + "sleep", 1)
        calls = [client.call(prefix + "sleep", RUNS, expiration=10) for _ in range(2)]
        await until(functools.partial(_have_started, [canceled]))
        delete(exchanges=("crew.control",))
        canceled.cancel()
        calls += [client.call(prefix + "sleep", RUNS, expiration=10) for _ in range(2)]
        for call in calls:
            assert await call == RUNS


@pytest.mark.gen_test(timeout=30)
async def test_a_retry_into_a_deleted_exchange_is_not_lost(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    worker("retrying.py")
    async with Client(broker_url) as client:
        for _ in range(2):  # from the second round on, the worker remembers that its queues exist
            assert (await client.call(prefix + "flaky", 2, expiration=10))["attempt"] == 2
            delete(exchanges=("crew.retry",))
        assert (await client.call(prefix + "flaky", 2, expiration=10))["attempt"] == 2


@pytest.mark.gen_test(timeout=30)
async def test_a_subscription_receives_events_again_after_its_exchange_was_deleted(
    broker_url: str, prefix: str, delete: Callable[..., None]
) -> None:
    received: list[Any] = []
    async with Client(broker_url, tuning=Tuning(renewal_interval=0.2)) as subscriber, Client(broker_url) as publisher:
        await subscriber.subscribe(prefix + "news", lambda event: received.append(event.payload)).ready()
        delete(exchanges=("crew.PUBSUB",))
        await publisher.publish(prefix + "news", "at once", persistent=True)
        began = time.monotonic()
        while not received:
            await publisher.publish(prefix + "news", "again", persistent=True)
            assert time.monotonic() - began < BACK_WITHIN


@pytest.mark.gen_test(timeout=30)
async def test_a_message_is_parked_after_the_queue_of_parked_messages_was_deleted(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    worker("tasks.py")
    raw.parked(broker_url)
    delete(queues=("crew.parked",))
    raw.send(broker_url, f"crew.tasks.{prefix}echo", b"1", correlation_id="1", headers={"crew-deadline": "soon"})
    await until(lambda: _exists(broker_url, "crew.parked") and raw.depth(broker_url, "crew.parked"))


def _have_started(calls: list[Any]) -> bool:
    return all(call.has_started for call in calls)


def _exists(url: str, queue: str) -> bool:
    try:
        raw.depth(url, queue)
    except Exception as error:
        assert "NOT_FOUND" in str(error)
        return False
    return True

"""What is deleted under us on the broker is there again in a moment, and nothing of ours hangs or loops over it."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crew import Client
from crew.amqp.remembered import declarations
from tests.integration.conftest import TASKS
from tests.support import raw
from tests.support.processes import Process, running
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

RUNS = 0.3  # seconds that a task takes which runs while something is deleted
BACK_WITHIN = 2.0  # seconds
EXCHANGES = ("crew.DLX", "crew.PUBSUB", "crew.control", "crew.retry")


@pytest.fixture(scope="module")
def broker_url(vhost_url: Callable[[], str]) -> str:
    """A virtual host of its own: its exchanges are nobody else's."""
    return vhost_url()


@pytest.fixture(scope="module")
def worker(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory, shared_prefix: str
) -> Iterator[Callable[[str], Process]]:
    """A worker in threads of one of the scripts here."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment) as processes:

        @functools.cache
        def start(script: str) -> Process:
            return processes.python(TASKS.with_name(script), "--threads", "4").says("serving")

        yield start


@pytest.fixture
def prefix(shared_prefix: str) -> str:
    """The workers'."""
    return shared_prefix


@pytest.fixture
def delete(broker_url: str) -> Callable[..., None]:
    """Delete exchanges or queues of these names."""

    def delete(*, exchanges: tuple[str, ...] = (), queues: tuple[str, ...] = ()) -> None:
        with raw.channel(broker_url) as channel:
            for name in exchanges:
                channel.exchange_delete(name)
            for name in queues:
                channel.queue_delete(name)

    return delete


@pytest.mark.gen_test(timeout=60)
async def test_what_is_deleted_costs_no_call_that_runs_and_holds_up_none_that_comes(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    process = worker("tasks.py")
    async with Client(broker_url) as client:
        who = await client.call(prefix + "who")
        deletions: list[dict[str, Any]] = [
            {"queues": (f"crew.tasks.{prefix}sleep",)},
            {"queues": (f"crew.reply.{client.id}",)},
            {"queues": (f"crew.control.{who['uuid']}",)},
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
async def test_a_cancel_into_an_exchange_that_was_deleted_costs_no_other_call(
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
async def test_a_retry_into_an_exchange_that_was_deleted_is_not_lost(
    broker_url: str, prefix: str, worker: Callable[[str], Process], delete: Callable[..., None]
) -> None:
    worker("retrying.py")
    async with Client(broker_url) as client:
        for _ in range(2):  # the worker knows then that its queues are there
            assert (await client.call(prefix + "flaky", 2, expiration=10))["attempt"] == 2
            delete(exchanges=("crew.retry",))
        assert (await client.call(prefix + "flaky", 2, expiration=10))["attempt"] == 2


@pytest.mark.gen_test(timeout=30)
async def test_a_subscription_to_an_exchange_that_was_deleted_hears_again(
    broker_url: str, prefix: str, delete: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declarations, "RENEWED_EVERY", 0.2)
    heard: list[Any] = []
    async with Client(broker_url) as subscriber, Client(broker_url) as publisher:
        await subscriber.subscribe(prefix + "news", lambda event: heard.append(event.payload)).ready()
        delete(exchanges=("crew.PUBSUB",))
        await publisher.publish(prefix + "news", "at once", persistent=True)
        began = time.monotonic()
        while not heard:
            await publisher.publish(prefix + "news", "again", persistent=True)
            assert time.monotonic() - began < BACK_WITHIN


@pytest.mark.gen_test(timeout=30)
async def test_a_message_is_parked_in_a_queue_that_was_deleted(
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

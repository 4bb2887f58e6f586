"""`crew queues migrate`: a queue gets the right arguments and keeps its calls."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pika
import pytest
from click.testing import CliRunner, Result

from crew.amqp.admin.session import open_session
from crew.cli import main
from crew.client.admin.queue_migration import _move
from crew.errors import Overloaded
from crew.protocol import topology
from crew.settings import load
from tests.support import raw
from tests.support.processes import Processes
from tests.support.waiting import eventually

QUEUE, HOLDING = "crew.tasks.moving", "crew.moved.moving"
OLD = {"x-max-priority": 5}

Crew = Callable[..., Result]


@pytest.fixture(scope="module")
def url(vhost_url: Callable[[], str]) -> str:
    """Virtual host for these tests."""
    return vhost_url()


@pytest.fixture
def crew(url: str) -> Crew:
    """Run a `crew` command to its end."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env={"CREW_AMQP_URL": url}, catch_exceptions=False)

    return run


def fill(url: str, count: int, arguments: dict[str, Any] | None = None, **properties: Any) -> list[str]:
    """Declare the queue with other arguments and fill it with messages; returns their ids."""
    ids = [f"{number:05}" for number in range(count)]
    with raw.channel(url) as channel:
        for queue in (QUEUE, HOLDING):
            channel.queue_delete(queue)
        channel.queue_declare(QUEUE, durable=True, arguments=OLD if arguments is None else arguments)
        channel.confirm_delivery()
        for id in ids:
            given = pika.BasicProperties(correlation_id=id, delivery_mode=2, **properties)
            channel.basic_publish("", QUEUE, id.encode(), given, mandatory=True)
    return ids


def taken(url: str, queue: str = QUEUE) -> list[tuple[str, bytes, Any]]:
    """Id, body and headers of all messages in `queue`, which is emptied."""
    found = []
    with raw.channel(url) as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            headers = dict(got[1].headers or {})
            for own in ("x-delivery-count", "x-acquired-count"):  # headers that the broker adds in a quorum queue
                headers.pop(own, None)
            found.append((got[1].correlation_id, got[2], headers))
    return found


def has_arguments(url: str, arguments: dict[str, Any]) -> bool:
    """Whether the queue has these arguments."""
    with raw.channel(url) as channel:
        try:
            channel.queue_declare(QUEUE, durable=True, arguments=arguments)
        except pika.exceptions.ChannelClosedByBroker:
            return False
    return True


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ([], topology.task_queue("moving").arguments),
        (["--max-queue", "1000"], topology.task_queue("moving", max_queue=1000).arguments),
        (["--queue-type", "quorum"], topology.of_type(topology.task_queue("moving"), "quorum").arguments),  # type: ignore[union-attr]
    ],
    ids=["crew's", "bounded", "quorum"],
)
def test_a_queue_gets_other_arguments_and_keeps_its_calls_in_order(
    url: str, crew: Crew, flags: list[str], arguments: dict[str, Any]
) -> None:
    headers = {"mine": "x", "deep": {"a": [1, None, {"b": b"\xff"}]}, "crew-deadline": 2**40}
    ids = fill(url, 120, headers=headers)

    done = crew("queues", "migrate", "moving", *flags)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"queue {QUEUE}: declared again, 120 waiting messages moved\n"
    assert has_arguments(url, arguments)
    assert taken(url) == [(id, id.encode(), headers) for id in ids]
    assert (
        crew("queues", "migrate", "moving", *flags).stdout == f"queue {QUEUE}: its arguments are right, nothing to do\n"
    )
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        raw.depth(url, HOLDING)


def test_a_quorum_queue_becomes_classic_again(url: str, crew: Crew) -> None:
    ids = fill(url, 20, {"x-queue-type": "quorum"})
    assert crew("queues", "migrate", "moving").exit_code == 0
    assert [id for id, _, _ in taken(url)] == ids


def test_a_migration_keeps_the_order_of_priorities(url: str, crew: Crew) -> None:
    fill(url, 5, priority=1)
    with raw.channel(url) as channel:
        channel.basic_publish("", QUEUE, b"", pika.BasicProperties(correlation_id="urgent", priority=4))
    assert crew("queues", "migrate", "moving").exit_code == 0
    assert [id for id, _, _ in taken(url)] == ["urgent", "00000", "00001", "00002", "00003", "00004"]


def test_a_queue_with_a_consumer_is_not_migrated(url: str, crew: Crew) -> None:
    fill(url, 0)
    with raw.channel(url) as channel:
        channel.basic_consume(QUEUE, lambda *_: None)
        done = crew("queues", "migrate", "moving")
    assert done.exit_code == 7
    assert done.stderr == f"crew: queue {QUEUE} has 1 consumer: stop its workers first\n"
    assert has_arguments(url, OLD)


def test_a_max_queue_below_the_number_of_waiting_calls_is_refused_before_a_migration(url: str, crew: Crew) -> None:
    fill(url, 3)
    done = crew("queues", "migrate", "moving", "--max-queue", "2")
    assert done.exit_code == 7
    assert done.stderr.startswith(f"crew: queue {QUEUE} has 3 calls, more than --max-queue 2")
    assert raw.depth(url, QUEUE) == 3


def test_migrating_a_task_without_a_queue_is_an_error(url: str, crew: Crew) -> None:
    assert crew("queues", "migrate", "unserved").exit_code == 3


@pytest.mark.gen_test
async def test_messages_with_the_same_id_stay_if_their_new_queue_was_deleted(url: str) -> None:
    fill(url, 0)
    with raw.channel(url) as channel:
        channel.confirm_delivery()
        for id in (ids := [*["one"] * 20, *[None] * 20]):  # enough that the broker confirms several in one frame
            channel.basic_publish("", QUEUE, b"", pika.BasicProperties(correlation_id=id, delivery_mode=2))
    async with open_session(load(url), name="test") as session:
        with pytest.raises(Overloaded, match="was deleted"):
            await _move(session, QUEUE, "crew.moved.deleted")
    assert [id for id, _, _ in taken(url)] == ids


@pytest.mark.chaos
def test_a_killed_migration_continues_when_it_is_run_again(url: str, crew: Crew, processes: Processes) -> None:
    ids = fill(url, 1_500)

    def is_under_way() -> bool:
        try:
            return 0 < raw.depth(url, HOLDING) < 1_450
        except pika.exceptions.ChannelClosedByBroker:
            return False

    for _ in range(2):  # first while messages are moved; the second time at any step
        killed = processes.start(
            sys.executable, "-m", "crew", "queues", "migrate", "moving", environment={"CREW_AMQP_URL": url}
        )
        eventually(is_under_way)
        os.kill(killed.pid, signal.SIGKILL)
        killed.ends(5)
    eventually(lambda: raw.consumers(url, HOLDING) == 0)

    assert eventually(lambda: crew("queues", "migrate", "moving").exit_code == 0)

    assert has_arguments(url, topology.task_queue("moving").arguments)
    found = [id for id, _, _ in taken(url)]
    assert sorted(set(found)) == ids
    assert len(found) <= len(ids) + 2 * 50  # messages in flight when it was killed

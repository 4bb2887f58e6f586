"""A message for which the broker closes the channel fails alone and with the broker's reason, whatever its type."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import crew
from crew import Client
from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.admin.session import open_session
from crew.amqp.errors import LinkError
from crew.client.admin import parked
from crew.jobs import JobStatus, JobStore
from crew.protocol import failure, parked_message, properties, topology
from crew.protocol.properties import Properties
from crew.settings import load
from tests.integration.conftest import StartWorker
from tests.support import raw, stores
from tests.support.broker import EVERYTHING, vhost_of
from tests.support.waiting import until

# Properties that RabbitMQ refuses, each with a part of its reason. crew itself never sends them.
REFUSALS: dict[str, tuple[Properties, str]] = {
    "CC that is no array": (Properties(headers={"CC": "x"}), "CC"),
    "BCC that is a table": (Properties(headers={"BCC": {"a": 1}}), "BCC"),
    "expiration that is no number": (Properties(expiration="soon"), "invalid expiration"),
    "expiration below zero": (Properties(expiration="-1"), "invalid expiration"),
    "delivery mode 3": (Properties(delivery_mode=3), "delivery_mode"),
    "reply_to without a fast reply consumer": (Properties(reply_to="amq.rabbitmq.reply-to"), "fast reply consumer"),
}
ONLY_BEFORE_4 = "delivery mode 3"


class Watched:
    """A link, and the errors that ended its connections."""

    def __init__(self, url: str) -> None:
        self.lost: list[LinkError] = []
        self.link = Link(load(url), name="test", on_lost=self.lost.append)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Watched]:
    """Open a link, and close it at the end of the block; fails if its connection was lost."""
    one = Watched(url)
    one.link.open()
    try:
        await one.link.ready()
        yield one
        assert one.lost == [], "the connection stays"
    finally:
        await one.link.close()


@pytest.fixture
def queue(broker_url: str, unique: str) -> topology.Queue:
    """An empty queue."""
    queue = topology.Queue(f"{unique}queue", {"x-expires": 60_000})
    raw.declare(broker_url, queue)
    return queue


def ids_in(url: str, queue: str) -> list[str]:
    """Ids of the messages in `queue`, which is emptied."""
    found = []
    with raw.channel(url) as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(got[1].correlation_id)
    return found


def send(link: Link, queue: str, *ids: str, mode: int = 2) -> list[Confirm]:
    """Publish messages with these ids."""
    return [
        link.publish("", queue, Properties(correlation_id=id, delivery_mode=mode), b"x", mandatory=True) for id in ids
    ]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.gen_test(timeout=30)
async def test_a_message_that_the_broker_refuses_fails_alone(
    broker_url: str, queue: topology.Queue, refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    given, reason = REFUSALS[refusal]
    async with watched(broker_url) as one:
        link = one.link
        if refusal == ONLY_BEFORE_4 and not link.broker_version.startswith("3."):
            pytest.skip("RabbitMQ 4 accepts it")
        before = send(link, queue.name, "a", "b") + send(link, queue.name, "1", "2", mode=1)
        bad = link.publish("", queue.name, given, b"bad", mandatory=True)
        after = send(link, queue.name, "c", "d") + send(link, queue.name, "3", "4", mode=1)
        unroutable = link.publish("", f"{queue.name}.missing", Properties(correlation_id="e"), b"", mandatory=True)
        assert await bad is ConfirmStatus.INVALID
        assert reason in bad.reason
        assert {await confirm for confirm in before + after} == {ConfirmStatus.CONFIRMED}
        assert await unroutable is ConfirmStatus.RETURNED
        later = send(link, queue.name, "f")
        assert await later[0] is ConfirmStatus.CONFIRMED
    arrived = ids_in(broker_url, queue.name)
    assert {*arrived} == {*"abcdf1234"}
    assert [arrived.count(id) for id in "1234"] == [1, 1, 1, 1], "messages that are not persistent arrive at most once"
    assert "discarding it" in caplog.text


@pytest.mark.gen_test(timeout=60)
async def test_each_refused_message_is_found_among_hundreds_of_others(broker_url: str, queue: topology.Queue) -> None:
    async with watched(broker_url) as one:
        kinds = [given for name, given in REFUSALS.items() if name != ONLY_BEFORE_4]
        bad, good = [], []
        for number in range(300):
            if number % 25 == 7:
                given, _ = kinds[number % len(kinds)]
                bad.append(one.link.publish("", queue.name, given, b"", mandatory=True))
            else:
                good += send(one.link, queue.name, str(number), mode=1 + number % 2)
        assert {await confirm for confirm in bad} == {ConfirmStatus.INVALID}
        assert {await confirm for confirm in good} == {ConfirmStatus.CONFIRMED}
    arrived = ids_in(broker_url, queue.name)
    expected = {str(number) for number in range(300) if number % 25 != 7}
    assert {*arrived} == expected
    assert all(arrived.count(id) == 1 for id in expected if int(id) % 2 == 0)


@pytest.mark.gen_test(timeout=30)
async def test_unencodable_or_oversized_properties_fail_before_they_are_sent(
    broker_url: str, queue: topology.Queue
) -> None:
    async with watched(broker_url) as one:
        for given, reason in (
            (Properties(headers={"a": "x" * 140_000}), "more than a frame can carry (131064)"),
            (Properties(headers={"a": object()}), "cannot be encoded"),
            (Properties(headers={"a": 2**70}), "cannot be encoded"),
            (Properties(headers={"a": float("nan")}), "cannot be encoded: a header cannot be nan"),
            (Properties(headers={"a": [{"b": float("-inf")}]}), "cannot be encoded"),
            (Properties(correlation_id="x" * 256), "an AMQP short string has at most 255 bytes"),
        ):
            confirm = one.link.publish("", queue.name, given, b"", mandatory=True)
            assert await confirm is ConfirmStatus.INVALID
            assert reason in confirm.reason
        assert await send(one.link, queue.name, "a")[0] is ConfirmStatus.CONFIRMED


@pytest.mark.gen_test(timeout=60)
async def test_an_event_on_a_forbidden_topic_does_not_affect_other_calls(
    define: Callable[..., None], vhost_url: Callable[[], str], unique: str, prefix: str, start_worker: StartWorker
) -> None:
    url = vhost_url()
    user, vhost = f"{unique}user", vhost_of(url)
    start_worker("--url", url)
    public = {"user": user, "vhost": vhost, "exchange": "crew.PUBSUB", "write": "^public", "read": ".*"}
    define(
        users=[{"name": user, "password": "theirs", "tags": ""}],
        permissions=[{"user": user, "vhost": vhost, **EVERYTHING}],
        topic_permissions=[public],
    )
    user_url = f"amqp://{user}:theirs@127.0.0.1:{urlsplit(url).port}/{vhost}"
    async with Client(user_url) as client:
        lost: list[Any] = []
        client.links.publishing._on_lost = lost.append
        calls = [
            client.call(prefix + "echo", number, persistent=bool(number % 2), expiration=20) for number in range(50)
        ]
        events = [asyncio.ensure_future(client.publish("private.news", 1, persistent=True)) for _ in range(3)]
        calls += [
            client.call(prefix + "echo", number, persistent=bool(number % 2), expiration=20)
            for number in range(50, 100)
        ]
        for event in events:
            with pytest.raises(
                crew.MessageRefused, match=r"may not use topic 'private.news' in exchange 'crew.PUBSUB'"
            ):
                await event
        assert [await call for call in calls] == list(range(100))
        await client.publish("public.news", 1)
        assert lost == []


# --- messages of crew itself -----------------------------------------------------------------------------------------


@pytest.fixture
def cc_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, a message with a header `refuse` gets a header CC that the broker refuses."""

    def with_cc(make: Callable[..., Properties]) -> Callable[..., Properties]:
        def made(*arguments: Any, **options: Any) -> Properties:
            given = make(*arguments, **options)
            if "refuse" in (given.headers or {}):
                given.headers = {**(given.headers or {}), "CC": "x"}
            return given

        return made

    for name in ("of_call", "of_event"):
        monkeypatch.setattr(properties, name, with_cc(getattr(properties, name)))
    monkeypatch.setattr(parked_message, "of_replay", with_cc(parked_message.of_replay))


@pytest.mark.gen_test(timeout=60)
async def test_a_refused_call_job_or_event_fails_with_the_reason_and_affects_no_other(
    broker_url: str, prefix: str, start_worker: StartWorker, cc_added: None, tmp_path: Path
) -> None:
    start_worker()
    refuse = {"refuse": "yes"}
    async with Client(broker_url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        lost: list[LinkError] = []
        client.links.publishing._on_lost = lost.append
        calls = [client.call(prefix + "echo", n, persistent=bool(n % 2), expiration=20) for n in range(60)]
        refused = [
            client.call(prefix + "echo", 0, headers=refuse, persistent=mode, expiration=20) for mode in (True, False)
        ]
        calls += [client.call(prefix + "echo", n, persistent=bool(n % 2), expiration=20) for n in range(60, 120)]
        for call in refused:
            with pytest.raises(crew.MessageRefused, match=r"the broker does not accept call .*CC"):
                await call
        with pytest.raises(crew.MessageRefused, match=r"the broker does not accept job .*CC"):
            await client.submit(prefix + "echo", 1, headers=refuse)
        for persistent in (True, False):
            with pytest.raises(crew.MessageRefused, match=r"the broker does not accept the event .*CC"):
                await client.publish(prefix + "topic", 1, headers=refuse, persistent=persistent)
        assert [await call for call in calls] == list(range(120))
        job = await client.submit(prefix + "echo", 17)
        assert await job.result(20) == 17
        assert lost == []


@pytest.mark.gen_test(timeout=60)
async def test_an_accepted_job_whose_message_is_refused_ends_as_error_with_the_reason(
    broker_url: str, prefix: str, start_worker: StartWorker, cc_added: None, tmp_path: Path
) -> None:
    """A job that was accepted while the broker was unavailable is published later."""
    start_worker()
    url = f"sqlite:///{tmp_path}/jobs.db"
    async with stores.opened(url) as (store,):
        id, headers = str(uuid.uuid4()), {"refuse": "yes"}
        await stores.added(store, id=id, task=prefix + "echo", headers=headers, publish_at=0)
    async with Client(broker_url, store=JobStore(url)) as client:
        ended = await client.jobs.wait(id, 20)
    assert ended.status is JobStatus.ERROR
    assert ended.failure is not None
    reported = failure.decode(ended.failure)
    assert reported.type_name == "MessageRefused"
    assert "CC" in reported.message


@pytest.mark.gen_test(timeout=60)
async def test_a_worker_survives_refused_replies_retries_and_parked_messages(
    broker_url: str, prefix: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(script="refusing.py")
    async with Client(broker_url, store=JobStore(f"sqlite:///{tmp_path}/jobs.db")) as client:
        for persistent in (True, False):
            with pytest.raises(
                crew.TaskFailed, match=r"MessageRefused: task .*: the broker does not accept its reply: .*CC"
            ):
                await client.call(prefix + "refused", 1, persistent=persistent, expiration=20)
        job = await client.submit(prefix + "refused", 1)
        assert "MessageRefused" in str(await _error_of(job))
        with pytest.raises(crew.TaskFailed, match="OSError: it fails"):
            await client.call(prefix + "again", 1, headers={"refuse-again": "yes"}, expiration=20)
        raw.send(
            broker_url,
            f"crew.tasks.{prefix}echo",
            b"kept",
            correlation_id=f"{prefix}7",
            headers={"crew-deadline": "soon", "refuse-again": 1},
        )
        found = await until(lambda: [body for headers, body in raw.parked(broker_url) if "echo" in str(headers)])
        assert found == [b"kept"], "it is parked without the properties that the broker refuses"
        calls = [client.call(prefix + "echo", n, expiration=20) for n in range(20)]
        assert [await call for call in calls] == list(range(20)), "later calls get their replies from this worker"
    assert "Traceback" not in worker.own_output
    assert "next attempt" not in worker.output, "the worker kept its connections"


async def _error_of(job: Any) -> BaseException:
    with pytest.raises(crew.TaskFailed) as raised:
        await job.result(20)
    return raised.value


@pytest.mark.gen_test(timeout=60)
async def test_a_refused_parked_message_stays_parked_and_the_others_are_replayed(
    vhost_url: Callable[[], str], cc_added: None
) -> None:
    url = vhost_url()
    for queue in (topology.parked_queue(), topology.task_queue("echo")):
        raw.declare(url, queue)
    ids = [f"{number:02}" for number in range(60)]
    for id in ids:
        headers = {"crew-task": "echo", **({"refuse": "yes"} if id == "30" else {})}
        raw.send(url, "crew.parked", b"x", correlation_id=id, delivery_mode=2, headers=headers)
    async with open_session(load(url), name="test") as session:
        done = await parked.replay(session, parked.Selection())
    assert done.count == 59
    ((id, reason),) = done.left
    assert id == "30"
    assert "the broker does not accept the message: " in reason
    assert ids_in(url, "crew.parked") == ["30"]
    assert sorted({*ids_in(url, "crew.tasks.echo")}) == [id for id in ids if id != "30"]

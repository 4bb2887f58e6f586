"""`connect` and `publish` begin at once, even if they are not awaited."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tornado import gen

from crew import errors
from crew.amqp import ConfirmStatus, LinkState
from crew.client import Client
from crew.client.events.pubsub import PubSub
from crew.client.started import PendingEvent
from crew.protocol.message import Body, Event
from tests.support.broker import unreachable_url
from tests.support.links import FakeLink
from tests.support.waiting import until

LOGGER = "crew.client.started"


@pytest.fixture
def unreachable() -> Iterator[str]:
    """A URL at which nothing listens."""
    with unreachable_url() as url:
        yield url


class Topics:
    """The topics of a client; the test plays the broker."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.pubsub = PubSub("me", publishing=self.link.as_link(), consuming=FakeLink().as_link())

    def publish(self, *, persistent: bool = False, timeout: float = 5.0) -> PendingEvent:
        event = Event(topic="news", body=Body(b"1", "application/json"), persistent=persistent)
        return self.pubsub.start(event, timeout)


@pytest.mark.gen_test
async def test_an_event_is_sent_before_publish_returns() -> None:
    topics = Topics()
    pending = topics.publish()
    assert [one.key for one in topics.link.published] == ["news"]
    assert not pending.done()
    topics.link.confirm_all()
    await pending
    assert pending.done()


@pytest.mark.gen_test
async def test_an_unawaited_event_waits_for_the_broker() -> None:
    topics = Topics()
    topics.link.is_ready = False
    topics.publish()
    gc.collect()
    topics.link.is_ready = True
    await until(lambda: [one.key for one in topics.link.published] == ["news"])


@pytest.mark.gen_test
async def test_an_unawaited_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    topics = Topics()
    topics.publish()
    topics.link.confirm_all(ConfirmStatus.LOST)
    await until(lambda: caplog.messages)
    gc.collect()
    (line,) = [record for record in caplog.records if record.name == LOGGER]
    assert line.levelno == logging.ERROR
    assert line.getMessage().startswith("publish failed, and nothing awaited it: topic=news: the ")
    assert "\n" not in line.getMessage()


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["await", "yield", "gather", "create_task", "wait_for"])
async def test_an_awaited_failure_is_raised_and_not_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    @gen.coroutine
    def yields(pending: PendingEvent) -> Any:
        yield pending

    topics = Topics()
    pending = topics.publish()
    steps = {
        "await": pending,
        "yield": yields(pending) if how == "yield" else None,
        "gather": asyncio.gather(pending) if how == "gather" else None,
        "create_task": asyncio.create_task(pending) if how == "create_task" else None,
        "wait_for": asyncio.wait_for(pending, 5) if how == "wait_for" else None,
    }
    asyncio.get_running_loop().call_soon(topics.link.confirm_all, ConfirmStatus.LOST)
    with pytest.raises(errors.ConnectionError):
        await steps[how]  # type: ignore[misc]
    del pending, steps
    gc.collect()
    assert caplog.messages == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"topic": ""}, ValueError),
        ({"payload": {1, 2}}, errors.SerializationError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "soon"}, ValueError),
        ({"headers": {"crew-task": "x"}}, ValueError),
        ({"serializer": "pickle"}, ValueError),
        ({"fail_fast": True}, errors.ConnectionError),
    ],
    ids=str,
)
async def test_publish_raises_for_an_invalid_argument(unreachable: str, options: dict[str, Any], kind: type) -> None:
    client = Client(unreachable)
    with pytest.raises(kind):
        client.publish(**{"topic": "news", **options})
    await client.close()


@pytest.mark.gen_test
async def test_publish_raises_while_the_broker_is_blocked() -> None:
    topics = Topics()
    topics.link.is_blocked = True
    with pytest.raises(errors.Overloaded):
        topics.publish()


@pytest.mark.gen_test
async def test_a_closed_client_refuses_to_publish_at_once(unreachable: str) -> None:
    client = Client(unreachable)
    await client.close()
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.publish("news")
    with pytest.raises(errors.ConnectionError, match="closed"):
        client.connect()


@pytest.mark.gen_test
async def test_closing_a_client_fails_its_events_in_flight(unreachable: str, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(unreachable)
    client.publish("news")
    with caplog.at_level(logging.ERROR, logger=LOGGER):
        await client.close()
    assert [record.getMessage()[:34] for record in caplog.records if record.name == LOGGER] == [
        "publish failed, and nothing awaite"
    ]


@pytest.mark.parametrize("step", ["call", "publish"])
def test_call_and_publish_raise_without_an_event_loop(unreachable: str, step: str) -> None:
    with pytest.raises(RuntimeError, match=r"no running event loop; in a script or a thread, use crew\.client\.b"):
        getattr(Client(unreachable), step)("t")


@pytest.mark.gen_test
async def test_connect_starts_without_an_await(unreachable: str) -> None:
    client = Client(unreachable)
    client.connect()
    assert client.links.consuming.state is LinkState.CONNECTING
    await client.close()


def test_a_client_connected_before_a_loop_runs_starts_with_the_loop(unreachable: str) -> None:
    client = Client(unreachable)
    client.connect()
    assert client.links.consuming.state is LinkState.CLOSED

    async def main() -> None:
        await until(lambda: client.links.consuming.state is not LinkState.CLOSED)
        await client.close()

    asyncio.run(main())


def test_a_subscription_made_before_a_loop_runs_connects_with_the_loop(unreachable: str) -> None:
    client = Client(unreachable)
    client.subscribe("news", print)

    async def main() -> None:
        await until(lambda: client.links.consuming.state is not LinkState.CLOSED)
        await client.close()

    asyncio.run(main())


def test_a_client_connects_on_a_loop_that_was_set_before_it(unreachable: str) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = Client(unreachable)
    client.connect()

    async def main() -> None:
        await until(lambda: client.links.consuming.state is not LinkState.CLOSED)
        await client.close()

    try:
        loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_loop_of_another_thread_does_not_start_the_client(unreachable: str) -> None:
    client = Client(unreachable)
    client.connect()

    async def other() -> None:
        await asyncio.sleep(0.05)

    async def main() -> None:
        await asyncio.to_thread(asyncio.run, other())
        assert client._loop is asyncio.get_running_loop()
        await client.close()

    asyncio.run(main())

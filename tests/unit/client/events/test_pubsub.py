"""Publish and subscribe over fake links."""

import asyncio
from typing import Any

import pytest

from crew.amqp import ConfirmStatus
from crew.client.events.pubsub import PubSub
from crew.client.events.subscription import Event
from crew.errors import ConnectionError
from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Event as EncodedEvent
from tests.support.deliveries import RecordingChannel, a_delivery
from tests.support.links import FakeLink, ignored
from tests.support.waiting import until

QUEUE = topology.subscription_queue("me")


class Topics:
    """The topics of the client `me`."""

    def __init__(self) -> None:
        self.publishing, self.consuming = FakeLink(), FakeLink()
        self.pubsub = PubSub("me", publishing=self.publishing.as_link(), consuming=self.consuming.as_link())

    def bound(self) -> list[str]:
        """Topics that are bound at the broker."""
        return [item.key for item in self.consuming.topology if isinstance(item, topology.Binding)]


def encoded(topic: str = "news", payload: Any = None, *, persistent: bool = False) -> EncodedEvent:
    """An encoded event."""
    return EncodedEvent(topic=topic, body=codec.encode(payload), persistent=persistent)


@pytest.mark.gen_test
async def test_publishing_returns_after_the_confirm() -> None:
    topics = Topics()
    publishing = asyncio.ensure_future(topics.pubsub.publish(encoded("news.de"), 5))
    await until(lambda: topics.publishing.published)
    assert not publishing.done()
    topics.publishing.confirm_all()
    await publishing
    (published,) = topics.publishing.published
    assert (published.exchange, published.key, published.mandatory) == ("crew.PUBSUB", "news.de", False)


@pytest.mark.gen_test
async def test_an_event_behind_a_large_one_is_published_after_it() -> None:
    """A thread compresses the large one first."""
    topics = Topics()
    large = EncodedEvent(topic="large", body=codec.encode_on_loop("a" * (codec.QUICK + 1)))
    pending = [topics.pubsub.start(large, 5)]
    pending += [topics.pubsub.start(encoded(f"small{i}"), 5) for i in range(3)]
    assert topics.publishing.published == []
    await until(lambda: len(topics.publishing.published) == 4)
    assert [one.key for one in topics.publishing.published] == ["large", "small0", "small1", "small2"]
    assert topics.publishing.published[0].properties.content_encoding == "gzip"
    topics.publishing.confirm_all()
    await asyncio.gather(*pending)
    at_once = topics.pubsub.start(encoded("at once"), 5)
    assert topics.publishing.published[-1].key == "at once"
    topics.publishing.confirm_all()
    await at_once


@pytest.mark.gen_test
async def test_publishing_without_a_broker_ends_at_its_timeout() -> None:
    topics = Topics()
    topics.publishing.is_ready = False
    with pytest.raises(ConnectionError, match=r"within 0\.02 s"):
        await topics.pubsub.publish(encoded(), 0.02)


@pytest.mark.gen_test
async def test_an_event_that_is_not_persistent_is_never_sent_twice() -> None:
    topics = Topics()
    publishing = asyncio.ensure_future(topics.pubsub.publish(encoded(), 5))
    await until(lambda: topics.publishing.published)
    topics.publishing.confirm_all(ConfirmStatus.LOST)
    with pytest.raises(ConnectionError, match="'news'"):
        await publishing
    assert len(topics.publishing.published) == 1


@pytest.mark.gen_test
async def test_a_persistent_event_without_a_confirm_is_published_again() -> None:
    topics = Topics()
    publishing = asyncio.ensure_future(topics.pubsub.publish(encoded(persistent=True), 5))
    await until(lambda: len(topics.publishing.published) == 1)
    topics.publishing.confirm_all(ConfirmStatus.LOST)
    await until(lambda: len(topics.publishing.published) == 2)
    topics.publishing.confirm_all()
    await publishing


@pytest.mark.gen_test
async def test_a_persistent_event_published_while_the_connection_breaks_is_sent_later() -> None:
    topics = Topics()
    topics.publishing.breaks = 1
    publishing = asyncio.ensure_future(topics.pubsub.publish(encoded(persistent=True), 5))
    await until(lambda: publishing.done() or topics.publishing.published)
    topics.publishing.confirm_all()
    await publishing


@pytest.mark.gen_test
async def test_a_subscription_made_before_a_loop_runs_is_declared_later() -> None:
    topics = Topics()
    subscription = topics.pubsub.subscribe("news", ignored)
    assert topics.bound() == []
    topics.pubsub.open()
    topics.pubsub.open()
    await subscription.ready()
    assert topics.bound() == ["news"]
    assert topics.consuming.consumed == [(QUEUE.name, 500)]


@pytest.mark.gen_test
async def test_an_event_reaches_its_callback_and_is_acknowledged() -> None:
    topics, received, channel = Topics(), list[Event](), RecordingChannel()
    topics.pubsub.open()
    await topics.pubsub.subscribe("news.*", received.append).ready()
    event = encoded("news.de", {"x": 1})
    arrived = a_delivery(channel, properties=properties.of_event(event, now=0), body=event.body.data)
    topics.consuming.consumers[QUEUE.name].on_delivery(type(arrived)(**{**_fields(arrived), "topic": "news.de"}))
    assert [(one.topic, one.payload) for one in received] == [("news.de", {"x": 1})]
    assert len(channel.acked_through) == 1


def _fields(delivery: Any) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in delivery.__struct_fields__}


@pytest.mark.gen_test
async def test_an_unreadable_event_is_discarded_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    topics, channel = Topics(), RecordingChannel()
    topics.pubsub.open()
    await topics.pubsub.subscribe("#", ignored).ready()
    bad = a_delivery(channel, properties=properties.Properties(content_type=codec.JSON), body=b"{")
    topics.consuming.consumers[QUEUE.name].on_delivery(bad)
    assert len(channel.acked_through) == 1
    assert "event unreadable, discarding it: " in caplog.text


@pytest.mark.gen_test
async def test_a_topic_is_unbound_with_its_last_subscription() -> None:
    topics = Topics()
    topics.pubsub.open()
    first, second = (topics.pubsub.subscribe("news", ignored) for _ in range(2))
    await second.ready()
    first.close()
    first.close()
    await until(lambda: not topics.pubsub._tasks)
    assert topics.bound() == ["news"]
    second.close()
    await until(lambda: topics.bound() == [])


@pytest.mark.gen_test
async def test_a_topic_that_is_unsubscribed_and_subscribed_at_once_stays_bound() -> None:
    topics = Topics()
    topics.pubsub.open()
    await topics.pubsub.subscribe("news", ignored).ready()
    topics.pubsub.unsubscribe("news", None)
    again = topics.pubsub.subscribe("news", ignored)
    await again.ready()
    await until(lambda: not topics.pubsub._tasks)
    assert topics.bound() == ["news"]


@pytest.mark.gen_test
async def test_unsubscribing_may_name_one_callback() -> None:
    topics, kept, dropped = Topics(), list[Event](), list[Event]()
    topics.pubsub.subscribe("news", kept.append)
    topics.pubsub.subscribe("news", dropped.append)
    topics.pubsub.unsubscribe("news", dropped.append)
    topics.pubsub.unsubscribe("nothing", None)
    topics.pubsub._subscriptions.deliver(encoded("news"))
    assert (len(kept), len(dropped)) == (1, 0)


@pytest.mark.gen_test
async def test_closing_the_client_deletes_its_queue() -> None:
    topics = Topics()
    topics.pubsub.open()
    await topics.pubsub.subscribe("news", ignored).ready()
    await topics.pubsub.close()
    assert topics.consuming.deleted == [QUEUE.name]


@pytest.mark.parametrize("callback", [None, "print", 7])
def test_a_callback_must_be_callable(callback: Any) -> None:
    with pytest.raises(ValueError, match="callback"):
        Topics().pubsub.subscribe("news", callback)


@pytest.mark.gen_test
async def test_waiting_for_a_refused_subscription_raises(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse() -> None:
        raise ConnectionError("user name or password refused")

    topics = Topics()
    with monkeypatch.context() as patched:
        patched.setattr(topics.consuming, "ready", refuse)
        topics.pubsub.open()
        subscription = topics.pubsub.subscribe("news", ignored)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="refused"):
                await subscription.ready()
    topics.pubsub.on_ready()
    await until(lambda: not subscription.has_failed)
    await subscription.ready()
    assert "refused" in caplog.text


@pytest.mark.gen_test
async def test_waiting_for_a_subscription_of_a_closed_client_raises() -> None:
    topics = Topics()
    topics.consuming.is_ready = False
    topics.pubsub.open()
    waiting = asyncio.ensure_future(topics.pubsub.subscribe("news", ignored).ready())
    await asyncio.sleep(0)
    await topics.pubsub.close()
    with pytest.raises(ConnectionError, match="closed"):
        await waiting


@pytest.mark.gen_test
async def test_events_after_a_large_event_are_delivered_in_order() -> None:
    topics, received = Topics(), []
    channel = RecordingChannel()
    topics.pubsub.open()
    topics.pubsub.subscribe("#", lambda event: received.append(event.payload))
    payloads: list[Any] = ["first", [{"a": i} for i in range(60_000)], "third", ["x" * 100_000], "fifth"]
    for payload in payloads:
        event = encoded(payload=payload)
        given = properties.of_event(event, now=0)
        topics.pubsub._on_event(a_delivery(channel, properties=given, body=event.body.data, task="news"))
    assert received == ["first"]
    await until(lambda: len(received) == len(payloads))
    assert received == payloads
    assert len(channel.acked_through) == 1  # the first
    assert channel.acked == channel.held
    assert len(channel.acked) == len(payloads) - 1


@pytest.mark.gen_test
async def test_an_event_that_cannot_be_decoded_is_discarded_and_the_next_is_delivered() -> None:
    topics, received = Topics(), []
    channel = RecordingChannel()
    topics.pubsub.open()
    topics.pubsub.subscribe("#", lambda event: received.append(event.payload))
    for data in (b"[" * 100_000, b"[" * 2_000, b'"next"'):
        given = properties.of_event(EncodedEvent(topic="news", body=codec.encode(1)), now=0)
        topics.pubsub._on_event(a_delivery(channel, properties=given, body=data, task="news"))
    await until(lambda: received == ["next"])
    assert channel.acked == channel.held
    assert len(channel.acked) == 3

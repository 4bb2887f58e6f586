"""Subscriptions and the events that their callbacks get."""

import asyncio
from typing import Any

import pytest

from crew.client.events.subscription import Event, Subscription, Subscriptions
from crew.errors import SerializationError
from crew.protocol.encoding import codec
from crew.protocol.message import Body
from crew.protocol.message import Event as EncodedEvent
from tests.support.links import ignored
from tests.support.waiting import until


class Recorder:
    """A callback that records its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def topics(self) -> list[str]:
        """The topics of the events."""
        return [event.topic for event in self.events]


def an_event(topic: str, payload: Any = None) -> EncodedEvent:
    """An event as it is received."""
    return EncodedEvent(topic=topic, body=codec.encode(payload), headers={"a": 1})


def subscribed(*pairs: tuple[str, Any]) -> Subscriptions:
    """Subscriptions of (topic, callback)."""
    subscriptions = Subscriptions()
    for topic, callback in pairs:
        subscriptions.add(Subscription(topic, callback, ignored))
    return subscriptions


def test_a_callback_gets_topic_payload_and_headers() -> None:
    received = Recorder()
    subscribed(("news", received)).deliver(an_event("news", {"x": [1]}))
    assert received.events == [Event("news", {"x": [1]}, {"a": 1})]


def test_every_callback_of_a_topic_gets_every_event() -> None:
    first, second = Recorder(), Recorder()
    subscriptions = subscribed(("news", first), ("news", second))
    subscriptions.deliver(an_event("news"))
    subscriptions.deliver(an_event("news"))
    assert first.topics == second.topics == ["news", "news"]


def test_a_pattern_gets_only_the_topics_that_it_matches() -> None:
    one, all_below, everything, other = Recorder(), Recorder(), Recorder(), Recorder()
    subscriptions = subscribed(("news.*", one), ("news.#", all_below), ("#", everything), ("weather", other))
    for topic in ("news", "news.de", "news.de.berlin"):
        subscriptions.deliver(an_event(topic))
    assert one.topics == ["news.de"]
    assert all_below.topics == everything.topics == ["news", "news.de", "news.de.berlin"]
    assert other.topics == []


def test_a_callback_that_raises_does_not_affect_the_other_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    def raising(event: Event) -> None:
        raise ValueError("a bug")

    received = Recorder()
    subscribed(("news", raising), ("news", received)).deliver(an_event("news"))
    assert received.topics == ["news"]
    assert "a bug" in caplog.text


@pytest.mark.gen_test
async def test_a_callback_may_be_a_coroutine_function(caplog: pytest.LogCaptureFixture) -> None:
    received = Recorder()

    async def callback(event: Event) -> None:
        await asyncio.sleep(0)
        received(event)
        raise ValueError("a bug")

    subscribed(("news", callback)).deliver(an_event("news"))
    await until(lambda: received.topics == ["news"])
    await until(lambda: "a bug" in caplog.text)


def test_an_event_that_cannot_be_decoded_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError):
        subscribed(("news", ignored)).deliver(EncodedEvent(topic="news", body=Body(b"{", codec.JSON)))


def test_a_callback_may_close_its_own_subscription() -> None:
    subscriptions = Subscriptions()
    received = Recorder()

    def remove(subscription: Subscription) -> None:
        subscriptions.remove(subscription)

    def once(event: Event) -> None:
        received(event)
        mine.close()

    mine = Subscription("news", once, remove)
    other = Subscription("news", received, remove)
    subscriptions.add(mine)
    subscriptions.add(other)
    subscriptions.deliver(an_event("news"))
    subscriptions.deliver(an_event("news"))
    assert len(received.events) == 3


def test_the_first_and_the_last_subscription_of_a_topic_are_recognized() -> None:
    subscriptions = Subscriptions()
    first, second = (Subscription("news", ignored, ignored) for _ in range(2))
    assert [subscriptions.add(first), subscriptions.add(second)] == [True, False]
    assert len(subscriptions) == 2
    assert [subscriptions.remove(first), subscriptions.remove(first), subscriptions.remove(second)] == [
        False,
        False,
        True,
    ]
    assert list(subscriptions) == []


def test_subscriptions_are_found_by_topic_and_callback() -> None:
    one, other = Recorder(), Recorder()
    subscriptions = subscribed(("news", one), ("news", other), ("weather", one))
    assert len(subscriptions.of("news", None)) == 2
    assert [found.callback for found in subscriptions.of("news", other)] == [other]
    assert subscriptions.of("nothing", None) == []


@pytest.mark.parametrize("topic", ["", "x" * 245, "a\nb", None, 7])
def test_an_invalid_topic_is_a_value_error(topic: Any) -> None:
    with pytest.raises(ValueError, match="topic must"):
        Subscription(topic, ignored, ignored)


@pytest.mark.gen_test
async def test_a_subscription_is_ready_when_it_is_declared() -> None:
    subscription = Subscription("news", ignored, ignored)
    assert repr(subscription) == "<Subscription to news: not yet active>"
    ready = asyncio.ensure_future(subscription.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    subscription.activate()
    await ready
    assert repr(subscription) == "<Subscription to news: active>"

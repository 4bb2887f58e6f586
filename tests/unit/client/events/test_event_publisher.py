"""Events are published in their order, until the broker has taken them."""

import asyncio

import pytest

from crew.amqp import ConfirmStatus
from crew.client.events.event_publisher import EventPublisher
from crew.errors import ConnectionError, MessageRefused, Overloaded, TooLarge
from crew.protocol.encoding import codec
from crew.protocol.message import Event
from tests.support.links import FakeLink
from tests.support.waiting import until


def an_event(topic: str = "news", *, persistent: bool = True, large: bool = False) -> Event:
    """An encoded event; a large one is compressed in a thread first."""
    body = codec.encode_on_loop("a" * (codec.QUICK + 1) if large else None)
    return Event(topic=topic, body=body, persistent=persistent)


@pytest.fixture
def link() -> FakeLink:
    """The publishing link."""
    return FakeLink()


@pytest.fixture
def publisher(link: FakeLink) -> EventPublisher:
    """The publisher of a client."""
    return EventPublisher(link.as_link(), max_message=codec.MAX_BODY)


def topics(link: FakeLink) -> list[str]:
    """The topics of the published events."""
    return [one.key for one in link.published]


@pytest.mark.gen_test
async def test_events_that_wait_for_the_broker_keep_their_order(publisher: EventPublisher, link: FakeLink) -> None:
    link.is_ready = False
    pending = [publisher.start(an_event(str(i), large=i == 1), 5) for i in range(4)]
    assert len(publisher.tasks) > len(pending)
    link.is_ready = True
    pending.append(publisher.start(an_event("4"), 5))
    await until(lambda: len(link.published) == 5)
    assert topics(link) == list("01234")
    link.confirm_all()
    await asyncio.gather(*pending)
    await until(lambda: not publisher.tasks)


@pytest.mark.gen_test
async def test_lost_events_are_published_again_in_their_order(publisher: EventPublisher, link: FakeLink) -> None:
    pending = [publisher.start(an_event(str(i)), 5) for i in range(3)]
    link.confirm_all(ConfirmStatus.LOST)
    pending.append(publisher.start(an_event("3"), 5))
    assert topics(link) == [*"012", *"0123"]
    link.confirm_all()
    await asyncio.gather(*pending)


@pytest.mark.gen_test
async def test_a_refused_event_is_published_again_over_another_channel(
    publisher: EventPublisher, link: FakeLink
) -> None:
    pending = publisher.start(an_event(), 5)
    link.confirm_all(ConfirmStatus.REFUSED)
    assert link.changes == 1
    await until(lambda: len(link.published) == 2)
    link.confirm_all()
    await pending


@pytest.mark.gen_test
async def test_a_refused_event_that_is_not_persistent_fails(publisher: EventPublisher, link: FakeLink) -> None:
    """Another queue of its topic may have taken it."""
    pending = publisher.start(an_event(persistent=False), 5)
    link.confirm_all(ConfirmStatus.REFUSED)
    with pytest.raises(ConnectionError, match="may be lost"):
        await pending
    assert len(link.published) == 1


@pytest.mark.gen_test
async def test_an_event_that_the_broker_does_not_accept_fails(publisher: EventPublisher, link: FakeLink) -> None:
    pending = publisher.start(an_event(), 5)
    link.confirm_all(ConfirmStatus.TOO_LARGE)
    with pytest.raises(TooLarge, match="4 bytes"):
        await pending
    pending = publisher.start(an_event(), 5)
    link.published[-1].confirm.refuse("a header is wrong")
    with pytest.raises(MessageRefused, match="a header is wrong"):
        await pending


@pytest.mark.gen_test
async def test_an_event_is_refused_while_the_broker_has_blocked_publishing(
    publisher: EventPublisher, link: FakeLink
) -> None:
    link.is_ready = False
    waiting = publisher.start(an_event(), 5)
    link.is_blocked = link.is_ready = True
    with pytest.raises(Overloaded):
        publisher.start(an_event(), 5)
    with pytest.raises(Overloaded):
        await waiting
    assert link.published == []


@pytest.mark.gen_test
async def test_an_event_whose_time_is_over_is_forgotten(publisher: EventPublisher, link: FakeLink) -> None:
    link.is_ready = False
    with pytest.raises(ConnectionError, match=r"within 0\.01 s"):
        await publisher.publish(an_event(), 0.01)
    assert repr(publisher) == "<EventPublisher: <Outbox of kind event: 0 wait, 0 not confirmed, 0 returned>>"
    await until(lambda: not publisher.tasks)
    link.is_ready = True
    await asyncio.sleep(0.02)
    assert link.published == []

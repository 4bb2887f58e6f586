"""Messages that are carried from one queue to another."""

from typing import Any, cast

import pytest

from crew.amqp.admin.move_messages import MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus, Forwarded
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties


class PlayedChannel:
    """Remembers what was acknowledged."""

    def __init__(self) -> None:
        self.is_open = True
        self.acknowledged: list[int] = []

    def ack(self, tag: int) -> bool:
        self.acknowledged.append(tag)
        return self.is_open


class PlayedSession:
    """Publishes, and lets the test confirm."""

    def __init__(self) -> None:
        self.published: list[Confirm] = []

    def publish(self, queue: str, properties: Properties, body: bytes, *, kind: type[Confirm] = Confirm) -> Confirm:
        self.published.append(kind("", queue, properties, body))
        return self.published[-1]


def a_delivery(channel: PlayedChannel, tag: int) -> Delivery:
    return Delivery(cast(Any, channel), tag, "source", "source", False, Properties(), b"")


@pytest.mark.gen_test
async def test_what_has_arrived_is_acknowledged_when_nothing_more_is_delivered_and_not_before() -> None:
    channel, session = PlayedChannel(), PlayedSession()
    mover = MessageMover(cast(Session, session), lambda delivery, confirm: None)
    for tag in (1, 2):
        mover.move(a_delivery(channel, tag), "target")
    for confirm in session.published:
        confirm.settle(ConfirmStatus.CONFIRMED)
    assert (channel.acknowledged, mover.moved) == ([], 0)
    await mover.settled()
    assert (channel.acknowledged, mover.moved) == ([1, 2], 2)
    assert [type(confirm) for confirm in session.published] == [Forwarded, Forwarded]


@pytest.mark.gen_test
async def test_what_the_new_queue_does_not_take_stays_where_it_is() -> None:
    channel, session, left = PlayedChannel(), PlayedSession(), []
    mover = MessageMover(cast(Session, session), lambda delivery, confirm: left.append((delivery.tag, confirm.status)))
    mover.move(a_delivery(channel, 1), "target", Properties())
    session.published[0].settle(ConfirmStatus.REFUSED)
    await mover.settled()
    assert (left, channel.acknowledged) == ([(1, ConfirmStatus.REFUSED)], [])


@pytest.mark.gen_test
async def test_a_message_that_is_lost_or_cannot_be_acknowledged_breaks_it() -> None:
    for status, is_open in ((ConfirmStatus.LOST, True), (ConfirmStatus.CONFIRMED, False)):
        channel, session = PlayedChannel(), PlayedSession()
        channel.is_open = is_open
        mover = MessageMover(cast(Session, session), lambda delivery, confirm: None)
        mover.move(a_delivery(channel, 1), "target")
        session.published[0].settle(status)
        with pytest.raises(LinkError):
            await mover.settled()

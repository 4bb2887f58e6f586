"""Messages that are moved from one queue to another."""

from typing import Any, cast

import pytest

from crew.amqp.admin.move_messages import MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus, Forwarded
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties


class FakeChannel:
    """Records acknowledged deliveries."""

    def __init__(self) -> None:
        self.is_open = True
        self.acknowledged: list[int] = []

    def ack(self, tag: int) -> bool:
        self.acknowledged.append(tag)
        return self.is_open


class FakeSession:
    """Records published messages, which the test confirms."""

    def __init__(self) -> None:
        self.published: list[Confirm] = []

    def publish(self, queue: str, properties: Properties, body: bytes, *, kind: type[Confirm] = Confirm) -> Confirm:
        self.published.append(kind("", queue, properties, body))
        return self.published[-1]


def a_delivery(channel: FakeChannel, tag: int) -> Delivery:
    return Delivery(cast(Any, channel), tag, "source", "source", False, Properties(), b"")


@pytest.mark.gen_test
async def test_moved_messages_are_acknowledged_when_all_are_confirmed() -> None:
    channel, session = FakeChannel(), FakeSession()
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
async def test_a_message_that_the_new_queue_refuses_stays_in_its_queue() -> None:
    channel, session, left = FakeChannel(), FakeSession(), []
    mover = MessageMover(cast(Session, session), lambda delivery, confirm: left.append((delivery.tag, confirm.status)))
    mover.move(a_delivery(channel, 1), "target", Properties())
    session.published[0].settle(ConfirmStatus.REFUSED)
    await mover.settled()
    assert (left, channel.acknowledged) == ([(1, ConfirmStatus.REFUSED)], [])


@pytest.mark.gen_test
async def test_a_message_that_is_lost_or_cannot_be_acknowledged_is_a_link_error() -> None:
    for status, is_open in ((ConfirmStatus.LOST, True), (ConfirmStatus.CONFIRMED, False)):
        channel, session = FakeChannel(), FakeSession()
        channel.is_open = is_open
        mover = MessageMover(cast(Session, session), lambda delivery, confirm: None)
        mover.move(a_delivery(channel, 1), "target")
        session.published[0].settle(status)
        with pytest.raises(LinkError):
            await mover.settled()

"""Carries messages from one queue to another: each is acknowledged in the one when the broker has it in the other.

So a crash at any point loses nothing; it may leave a message in both.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp.admin.session import Session
from crew.amqp.confirm import Confirm, ConfirmStatus, Forwarded
from crew.amqp.connection import content_header
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError
from crew.protocol.properties import UNREADABLE, Properties

logger = logging.getLogger(__name__)

WINDOW: Final = 50  # messages on their way at a time; with the largest of 16 MiB that is 800 MiB, with most nothing

OnLeft = Callable[[Delivery, Confirm], None]


class MessageMover:
    """Messages on their way.

    Args:
        session: publishes them: over another channel than the one that delivers them, which the broker may close over a
            message that it does not accept any longer.
        on_left: called with a message that its new queue does not take, because it is full (REFUSED) or not there
            (RETURNED), or that the broker does not accept (TOO_LARGE, INVALID): it stays where it is.

    Attributes:
        carried: how many have arrived and are acknowledged.
    """

    def __init__(self, session: Session, on_left: OnLeft) -> None:
        self.moved = 0
        self._session = session
        self._on_left = on_left
        self._on_way = 0
        self._is_broken = False
        self._arrived: list[Delivery] = []  # and not acknowledged
        self._all_arrived = asyncio.Event()
        self._all_arrived.set()

    def move(self, delivery: Delivery, queue: str, properties: Properties | None = None) -> None:
        """Send the message of `delivery` to `queue`; raises ConnectionError.

        Args:
            properties: of the new message, which is signed as ours. Default: those that it came with, and its signature
                is kept as it is.
        """
        kind, given = (Forwarded, delivery.properties) if properties is None else (Confirm, properties)
        confirm = self._session.publish(queue, _encodable(given), delivery.body, kind=kind)
        self._on_way += 1
        self._all_arrived.clear()
        confirm.then(lambda status: self._on_confirm(delivery, confirm, status))

    async def settled(self) -> None:
        """Wait for the confirm of each, and acknowledge those that have arrived, once nothing more is delivered.

        Acknowledged before, they would make room for deliveries that come too late for this window: the broker would
        take them back, a quorum queue to its end, behind all others.

        Raises:
            LinkError: the connection broke, or a message is not confirmed.
        """
        await self._all_arrived.wait()
        arrived, self._arrived = self._arrived, []
        for delivery in arrived:
            if delivery.ack():
                self.moved += 1
            else:
                self._is_broken = True
        if self._is_broken:
            raise LinkError("the connection broke, or the broker never confirmed a message")

    def _on_confirm(self, delivery: Delivery, confirm: Confirm, status: ConfirmStatus) -> None:
        self._on_way -= 1
        if self._on_way == 0:
            self._all_arrived.set()
        match status:
            case ConfirmStatus.CONFIRMED:
                self._arrived.append(delivery)
            case ConfirmStatus.LOST:
                self._is_broken = True
            case _:
                self._on_left(delivery, confirm)


def _encodable(properties: Properties) -> Properties:
    """`properties`, without headers of somebody else that can be read and not be written."""
    try:
        content_header.encode(properties, 0)
    except Exception as error:
        logger.debug("the headers of a message cannot be carried", exc_info=True)
        return msgspec.structs.replace(properties, headers={UNREADABLE: str(error)[:200]})
    return properties

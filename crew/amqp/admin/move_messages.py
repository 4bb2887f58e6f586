"""Moves messages from one queue to another: each is acknowledged when the broker has confirmed its copy.

So a crash at any point loses nothing. It may leave a message in both queues.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp.admin.session import Session
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus, Forwarded
from crew.amqp.connection import content_header
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError
from crew.protocol.properties import UNREADABLE, Properties

logger = logging.getLogger(__name__)

WINDOW: Final = 50  # messages in flight; at the largest message size of 16 MiB that is 800 MiB, usually far less

OnNotMoved = Callable[[Delivery, Confirm], None]


class MessageMover:
    """Moves messages and waits for their confirms.

    Args:
        session: publishes the messages. It uses another channel than the deliveries, because the broker may close the
            channel when it refuses a message.
        on_not_moved: called with a message that stays in its queue. The new queue is full (REFUSED) or does not exist
            (RETURNED), or the broker refuses the message (TOO_LARGE, INVALID).

    Attributes:
        moved: number of messages that were confirmed and acknowledged.
    """

    def __init__(self, session: Session, on_not_moved: OnNotMoved) -> None:
        self.moved = 0
        self._session = session
        self._on_not_moved = on_not_moved
        self._in_flight = 0
        self._is_broken = False
        self._confirmed: list[Delivery] = []  # and not acknowledged yet
        self._all_settled = asyncio.Event()
        self._all_settled.set()

    def move(self, delivery: Delivery, queue: str, properties: Properties | None = None) -> None:
        """Publish the message of `delivery` to `queue`; raise ConnectionError.

        Args:
            properties: properties of the new message, which is signed here. Default: its present properties with its
                present signature.
        """
        kind, given = (Forwarded, delivery.properties) if properties is None else (Confirm, properties)
        confirm = self._session.publish(queue, _encodable(given), delivery.body, kind=kind)
        self._in_flight += 1
        self._all_settled.clear()
        confirm.then(lambda status: self._on_confirm(delivery, confirm, status))

    async def settled(self) -> None:
        """Wait for all confirms, then acknowledge the confirmed messages; call it at the end of a window.

        Acknowledged earlier, they would make room for deliveries that are too late for this window. The broker would
        requeue those, and a quorum queue would put them behind all others.

        Raises:
            LinkError: the connection broke, or a message was not confirmed.
        """
        await self._all_settled.wait()
        confirmed, self._confirmed = self._confirmed, []
        for delivery in confirmed:
            if delivery.ack():
                self.moved += 1
            else:
                self._is_broken = True
        if self._is_broken:
            raise LinkError("the connection broke, or the broker did not confirm a message")

    def _on_confirm(self, delivery: Delivery, confirm: Confirm, status: ConfirmStatus) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._all_settled.set()
        match status:
            case ConfirmStatus.CONFIRMED:
                self._confirmed.append(delivery)
            case ConfirmStatus.LOST:
                self._is_broken = True
            case _:
                self._on_not_moved(delivery, confirm)


def _encodable(properties: Properties) -> Properties:
    """Return `properties`, without its headers where they can be decoded but not encoded."""
    try:
        content_header.encode(properties, 0)
    except Exception as error:
        logger.debug("headers of a moved message cannot be encoded", exc_info=True)
        return msgspec.structs.replace(properties, headers={UNREADABLE: str(error)[:200]})
    return properties

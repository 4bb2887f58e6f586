"""Carries messages from one queue to another: each is acknowledged in the one when the broker has it in the other.

So a crash at any point loses nothing; it may leave a message in both.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.delivery import Delivery
from crew.amqp.fault import LinkFault
from crew.protocol.properties import UNREADABLE, Properties
from crew.protocol.topology import DEFAULT_EXCHANGE

logger = logging.getLogger(__name__)

WINDOW: Final = 50  # messages on their way at a time; with the largest of 16 MiB that is 800 MiB, with most nothing

OnLeft = Callable[[Delivery, ConfirmStatus], None]


class Carrier:
    """Messages on their way.

    Args:
        on_left: told of a message that its new queue does not take, because it is full (REFUSED) or not there
            (RETURNED): it stays where it is.

    Attributes:
        carried: how many have arrived.
    """

    def __init__(self, on_left: OnLeft) -> None:
        self.carried = 0
        self._on_left = on_left
        self._on_way = 0
        self._is_broken = False
        self._all_arrived = asyncio.Event()
        self._all_arrived.set()

    def carry(self, delivery: Delivery, queue: str, properties: Properties | None = None) -> None:
        """Send the message of `delivery` to `queue`; raises LinkFault.

        Args:
            properties: of the new message, which is signed as ours. Default: those that it came with, and its signature
                is kept as it is.
        """
        channel = delivery.channel
        if properties is None:
            confirm = _publish(channel.forward, delivery.properties, delivery.body, queue)
        else:
            confirm = _publish(channel.publish, properties, delivery.body, queue)
        self._on_way += 1
        self._all_arrived.clear()
        confirm.then(lambda status: self._on_confirm(delivery, status))

    async def settled(self) -> None:
        """Wait until the broker has spoken on each of them; raises LinkFault where it cannot any longer."""
        await self._all_arrived.wait()
        if self._is_broken:
            raise LinkFault("the connection broke, or the broker never confirmed a message")

    def _on_confirm(self, delivery: Delivery, status: ConfirmStatus) -> None:
        self._on_way -= 1
        if self._on_way == 0:
            self._all_arrived.set()
        if status is ConfirmStatus.CONFIRMED and delivery.ack():
            self.carried += 1
        elif status in (ConfirmStatus.REFUSED, ConfirmStatus.RETURNED):
            self._on_left(delivery, status)
        else:
            self._is_broken = True


def _publish(publish: Callable[..., Confirm], properties: Properties, body: bytes, queue: str) -> Confirm:
    try:
        return publish(DEFAULT_EXCHANGE, queue, properties, body, mandatory=True)
    except LinkFault:
        raise
    except Exception as error:  # a table of somebody else's that can be read and not be written
        logger.debug("the headers of a message cannot be carried", exc_info=True)
        unreadable = msgspec.structs.replace(properties, headers={UNREADABLE: str(error)[:200]})
        return publish(DEFAULT_EXCHANGE, queue, unreadable, body, mandatory=True)

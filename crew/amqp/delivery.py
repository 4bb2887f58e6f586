"""A message as the broker delivered it.

A delivery keeps its channel, because a delivery tag is valid on its own channel only. On another channel the same tag
stands for another message.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from crew.protocol.properties import Properties


class DeliveringChannel(Protocol):
    """The methods of crew.amqp.channel.Channel that a delivery uses."""

    @property
    def is_open(self) -> bool: ...
    def ack(self, tag: int) -> bool: ...
    def hold(self, tag: int) -> None: ...
    def ack_through(self, tag: int) -> None: ...
    def requeue(self, tag: int) -> bool: ...


class Delivery(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A message as the broker delivered it.

    Attributes:
        queue: the queue that it was consumed from.
        topic: the routing key with which it was published.
        redelivered: whether the broker has delivered it before.
        refusal: why its signature was refused, where messages are signed; else None.
    """

    channel: DeliveringChannel
    tag: int
    queue: str
    topic: str
    redelivered: bool
    properties: Properties
    body: bytes
    refusal: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether its channel is open. Where it is closed, the broker redelivers an unacknowledged message."""
        return self.channel.is_open

    def ack(self) -> bool:
        """Acknowledge it; return False where its channel is closed, so that the broker redelivers it."""
        return self.channel.ack(self.tag)

    def hold(self) -> None:
        """Except it from `ack_through` of later deliveries: it takes longer, and is acknowledged by `ack`."""
        self.channel.hold(self.tag)

    def ack_through(self) -> None:
        """Acknowledge this delivery and all earlier deliveries of its channel, except those that are held."""
        self.channel.ack_through(self.tag)

    def requeue(self) -> bool:
        """Return it to its place in the queue; return False where its channel is closed."""
        return self.channel.requeue(self.tag)


OnDelivery = Callable[[Delivery], None]


def discard(delivery: Delivery) -> None:
    """Acknowledge `delivery` without processing it."""
    delivery.ack()

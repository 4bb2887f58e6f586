"""A message as the broker handed it over.

It remembers its channel: a tag of a closed channel is never acknowledged on another one, where it would mean another
message.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from crew.protocol.properties import Properties

if TYPE_CHECKING:
    from crew.amqp.channel import Channel


class Delivery(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A message as the broker handed it over.

    Attributes:
        queue: that it came over.
        topic: the routing key with which it was published.
        redelivered: whether it has been delivered before.
        refusal: why it is not to be trusted, where messages are signed and this one was refused; else None.
    """

    channel: "Channel"
    tag: int
    queue: str
    topic: str
    redelivered: bool
    properties: Properties
    body: bytes
    refusal: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether its channel is open; else the broker delivers it again, unless it was acknowledged."""
        return self.channel.is_open

    def ack(self) -> bool:
        """Tell the broker that it is done; False where its channel is gone, and the broker will deliver it again."""
        return self.channel.ack(self.tag)

    def ack_through(self) -> None:
        """Tell the broker that this one is done, and with it all that its channel delivered before."""
        self.channel.ack_through(self.tag)

    def requeue(self) -> bool:
        """Give it back to its queue, to where it stood."""
        return self.channel.requeue(self.tag)


OnDelivery = Callable[[Delivery], None]


def discard(delivery: Delivery) -> None:
    """Acknowledge `delivery` and do nothing else with it."""
    delivery.ack()

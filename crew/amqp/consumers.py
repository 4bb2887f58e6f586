"""Who takes the deliveries of which queue: remembered, so that every connection goes on with it."""

from collections.abc import Callable

import msgspec

from crew.amqp.channel import Channel
from crew.amqp.delivery import OnDelivery
from crew.amqp.fault import LinkFault


class Consumer(msgspec.Struct, frozen=True):
    """Who takes the deliveries of a queue.

    Attributes:
        on_delivery: called with each Delivery, on the link's loop; must not block.
        prefetch: unacknowledged deliveries that it may hold; 0 is no bound.
    """

    queue: str
    on_delivery: OnDelivery
    prefetch: int


class Consumers:
    """The consumers of a link, one a queue."""

    def __init__(self) -> None:
        self._by_queue: dict[str, Consumer] = {}

    def __repr__(self) -> str:
        return f"<Consumers of {', '.join(self._by_queue) or 'nothing'}>"

    def __contains__(self, queue: str) -> bool:
        return queue in self._by_queue

    def remember(self, consumer: Consumer) -> None:
        """In place of the earlier one of its queue."""
        self._by_queue[consumer.queue] = consumer

    def forget(self, queue: str) -> None:
        """Nothing where there is none."""
        self._by_queue.pop(queue, None)

    async def start(self, channel: Channel) -> None:
        """Start all, those that are remembered meanwhile too; raises LinkFault."""
        started: set[str] = set()
        while waiting := [consumer for queue, consumer in self._by_queue.items() if queue not in started]:
            for consumer in waiting:
                started.add(consumer.queue)
                await start(channel, consumer)


async def start(channel: Channel, consumer: Consumer) -> None:
    """Consume over `channel`; raises LinkFault."""
    await channel.consume(consumer.queue, consumer.on_delivery, prefetch=consumer.prefetch)


def told_of_cancel(on_closed: Callable[[LinkFault], None]) -> Callable[[str], None]:
    """What a channel tells the queue of whose consumer the broker has cancelled: it ends the connection."""
    return lambda queue: on_closed(
        LinkFault(f"the broker cancelled the consumer of {queue}: the queue was deleted or has moved")
    )

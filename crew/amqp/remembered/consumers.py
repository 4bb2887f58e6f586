"""Who takes the deliveries of which queue: remembered, so that every connection goes on with it."""

from collections.abc import Callable, Collection

import msgspec

from crew.amqp.channel import Channel
from crew.amqp.delivery import OnDelivery, discard
from crew.amqp.errors import LinkError


class Consumer(msgspec.Struct, frozen=True):
    """Who takes the deliveries of a queue.

    Attributes:
        on_delivery: called with each Delivery, on the link's loop; must not block.
        prefetch: unacknowledged deliveries that it may hold; 0 is no bound.
        is_only: nobody else consumes the queue. After a connection that the broker has not missed yet it still hands
            every second delivery to our own ghost, unless the new consumer comes first, see
            https://www.rabbitmq.com/docs/consumer-priority.
        on_refused: called in place of `on_delivery` with a message that is not signed, where messages have to be; must
            settle it. Default: it is discarded.
    """

    queue: str
    on_delivery: OnDelivery
    prefetch: int
    is_only: bool = False
    on_refused: OnDelivery = discard


class Consumers:
    """The consumers of a link, one a queue."""

    def __init__(self) -> None:
        self._by_queue: dict[str, Consumer] = {}
        self._connections = 0

    def __repr__(self) -> str:
        return f"<Consumers of {', '.join(self._by_queue) or 'nothing'}>"

    def __contains__(self, queue: str) -> bool:
        return queue in self._by_queue

    @property
    def queues(self) -> frozenset[str]:
        """Those that are consumed."""
        return frozenset(self._by_queue)

    def remember(self, consumer: Consumer) -> None:
        """In place of the earlier one of its queue."""
        self._by_queue[consumer.queue] = consumer

    def forget(self, queue: str) -> None:
        """Nothing where there is none."""
        self._by_queue.pop(queue, None)

    def on_connection(self) -> None:
        """All are started over another connection from now on."""
        self._connections += 1

    async def catch_up(self, started: dict[str, Consumer], channel: Channel, *, of: Collection[str]) -> bool:
        """Start those that are not `started` yet, and note them; cancel those that were forgotten meanwhile.

        Args:
            started: over this connection, by queue.
            of: queues that the broker has.

        Returns:
            Whether there was anything to do: meanwhile more may have been remembered.

        Raises:
            LinkError: the connection broke.
        """
        waiting = [one for queue, one in self._by_queue.items() if queue in of and started.get(queue) is not one]
        for consumer in waiting:
            started[consumer.queue] = consumer
            await self.start(channel, consumer)
        forgotten = [queue for queue in started if queue not in self._by_queue]
        for queue in forgotten:
            del started[queue]
            await channel.cancel(queue)
        return bool(waiting or forgotten)

    async def start(self, channel: Channel, consumer: Consumer) -> None:
        """Start one; raises LinkError."""
        priority = self._connections if consumer.is_only else 0
        await channel.consume(
            consumer.queue,
            consumer.on_delivery,
            prefetch=consumer.prefetch,
            priority=priority,
            on_refused=consumer.on_refused,
        )


def end_on_cancel(on_closed: Callable[[LinkError], None]) -> Callable[[str], None]:
    """What a channel tells the queue of whose consumer the broker has cancelled: it ends the connection."""
    return lambda queue: on_closed(
        LinkError(f"the broker cancelled the consumer of {queue}: the queue was deleted or has moved")
    )

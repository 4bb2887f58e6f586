"""The consumers of a link, remembered so that each new connection starts them again."""

from collections.abc import Callable, Collection

import msgspec

from crew.amqp.channel import Channel
from crew.amqp.delivery import OnDelivery, discard
from crew.amqp.errors import LinkError


class Consumer(msgspec.Struct, frozen=True):
    """A consumer of a queue.

    Attributes:
        on_delivery: called with each Delivery on the link's event loop; must not block.
        prefetch: limit of unacknowledged deliveries; 0 for no limit.
        is_only: it is the only consumer of the queue. After a reconnect the broker may still have the consumer of the
            lost connection, and would send it every second delivery. So the new consumer gets a higher priority, see
            https://www.rabbitmq.com/docs/consumer-priority.
        on_refused: called instead of `on_delivery` with a message without a valid signature, where messages are signed;
            must settle it. Default: it is discarded.
    """

    queue: str
    on_delivery: OnDelivery
    prefetch: int
    is_only: bool = False
    on_refused: OnDelivery = discard


class Consumers:
    """The consumers of a link, at most one for each queue."""

    def __init__(self) -> None:
        self._by_queue: dict[str, Consumer] = {}
        self._connections = 0

    def __repr__(self) -> str:
        return f"<Consumers of {', '.join(self._by_queue) or 'nothing'}>"

    def __contains__(self, queue: str) -> bool:
        return queue in self._by_queue

    @property
    def queues(self) -> frozenset[str]:
        """Names of the queues with a consumer."""
        return frozenset(self._by_queue)

    def remember(self, consumer: Consumer) -> None:
        """Remember `consumer`, in place of an earlier consumer of its queue."""
        self._by_queue[consumer.queue] = consumer

    def forget(self, queue: str) -> None:
        """Forget the consumer of `queue`; idempotent."""
        self._by_queue.pop(queue, None)

    def on_connection(self) -> None:
        """A new connection was made: consumers started on it have a higher priority than earlier ones."""
        self._connections += 1

    async def catch_up(self, started: dict[str, Consumer], channel: Channel, *, of: Collection[str]) -> bool:
        """Start consumers that are not in `started` and add them; cancel those that were forgotten meanwhile.

        Args:
            started: consumers that were started on this connection, by queue.
            of: queues that are declared.

        Returns:
            Whether anything was done. Then more may have been remembered meanwhile.

        Raises:
            LinkError: the connection broke.
        """
        waiting = [one for queue, one in self._by_queue.items() if queue in of and started.get(queue) is not one]
        for consumer in waiting:
            started[consumer.queue] = consumer
            # The broker answers in order: the last one has started after all others.
            await self.start(channel, consumer, waits=consumer is waiting[-1])
        forgotten = [queue for queue in started if queue not in self._by_queue]
        for queue in forgotten:
            del started[queue]
            await channel.cancel(queue)
        return bool(waiting or forgotten)

    async def start(self, channel: Channel, consumer: Consumer, *, waits: bool = True) -> None:
        """Start `consumer`, see Channel.consume; raise LinkError."""
        priority = self._connections if consumer.is_only else 0
        await channel.consume(
            consumer.queue,
            consumer.on_delivery,
            prefetch=consumer.prefetch,
            priority=priority,
            on_refused=consumer.on_refused,
            waits=waits,
        )


def close_on_cancel(on_closed: Callable[[LinkError], None]) -> Callable[[str], None]:
    """Return a callback for canceled consumers, which closes the connection: the next one declares the queue."""
    return lambda queue: on_closed(
        LinkError(f"consumer of queue {queue} canceled by the broker: the queue was deleted or moved to another node")
    )

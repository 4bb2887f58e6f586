"""A channel of the in-memory broker: deliveries that are not acknowledged, prefetch, consumers, confirms."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from crew.testing.broker.errors import ChannelClosed, ConnectionClosed
from crew.testing.broker.message import Entry, Message
from crew.testing.broker.queue import Queue

NO_ROUTE: Final = 312


class Host(Protocol):
    """The broker, as a channel sees it."""

    def route(self, message: Message) -> Sequence[Queue]:
        """The queues that get `message`."""

    def is_returned(self, queues: Sequence[Queue]) -> bool:
        """Whether a mandatory message that goes to `queues` is returned."""

    def queue(self, name: str, owner: object) -> Queue:
        """The queue of that name."""

    def new_name(self, prefix: str) -> str:
        """A name that nothing else has."""

    def on_consumer_gone(self, consumer: "Consumer") -> None:
        """A consumer was canceled."""


class Peer(Protocol):
    """The client of a channel."""

    def on_delivery(self, consumer_tag: str, delivery_tag: int, *, redelivered: bool, message: Message) -> None:
        """A message is delivered to a consumer."""

    def on_return(self, message: Message, code: int, text: str) -> None:
        """A mandatory message is returned."""

    def on_confirm(self, number: int, *, is_taken: bool) -> None:
        """A published message is confirmed (basic.ack), or refused (basic.nack)."""

    def on_cancel(self, consumer_tag: str) -> None:
        """The broker has canceled a consumer: its queue was deleted."""


class Consumer:
    """A consumer of one queue.

    Args:
        prefetch: unacknowledged deliveries at a time; 0: no limit.
    """

    def __init__(
        self, tag: str, queue: Queue, channel: "Channel", *, prefetch: int, no_ack: bool, exclusive: bool
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.exclusive = exclusive
        self._channel = channel
        self._prefetch = prefetch
        self._no_ack = no_ack
        self.unacked = 0

    @property
    def has_room(self) -> bool:
        """Whether it takes one more delivery."""
        return self._channel.is_flowing and (self._no_ack or not self._prefetch or self.unacked < self._prefetch)

    def on_queue_deleted(self) -> None:
        """Its queue does not exist any longer."""
        self._channel.drop_consumer(self)

    def deliver(self, entry: Entry) -> None:
        """Deliver the message of `entry`."""
        number = self._channel.hold(entry, self.queue, None if self._no_ack else self, keeps=not self._no_ack)
        self._channel.peer.on_delivery(self.tag, number, redelivered=entry.is_redelivered, message=entry.message)


class Channel:
    """One channel.

    Args:
        owner: its connection; exclusive queues belong to it.
    """

    def __init__(self, broker: Host, peer: Peer, *, owner: object) -> None:
        self.peer = peer
        self.is_flowing = True
        self.confirms = False
        self._broker = broker
        self._owner = owner
        self._published = 0
        self._prefetch = 0
        self._delivered = 0
        self._unacked: dict[int, tuple[Entry, Queue, Consumer | None]] = {}
        self._consumers: dict[str, Consumer] = {}

    # --- out --------------------------------------------------------------------------------------------------------

    def publish(self, message: Message, *, mandatory: bool = False) -> None:
        """Route a message; return it where it is mandatory and has no queue; confirm it.

        Raises:
            ChannelClosed: there is no such exchange, or a property cannot be used.
        """
        self._published += 1
        queues = self._broker.route(message)
        if mandatory and self._broker.is_returned(queues):
            self.peer.on_return(message, NO_ROUTE, "NO_ROUTE")
        refusing = any(queue.is_refusing(message) for queue in queues)
        number = self._published
        for queue in queues:
            queue.put(message)
        if self.confirms:
            self.peer.on_confirm(number, is_taken=not refusing)

    # --- in ---------------------------------------------------------------------------------------------------------

    def set_prefetch(self, count: int) -> None:
        """Limit the unacknowledged deliveries of each consumer that starts from now on."""
        self._prefetch = count

    def consume(
        self,
        queue_name: str,
        tag: str = "",
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a consumer, and deliver what waits; returns its tag. Call `Queue.deliver` after the answer is sent."""
        queue = self._broker.queue(queue_name, self._owner)
        if any(one.exclusive for one in queue.consumers) or (exclusive and queue.consumers):
            raise ChannelClosed(403, f"queue '{queue_name}' in vhost '/' in exclusive use")
        tag = tag or self._broker.new_name("amq.ctag-")
        if tag in self._consumers:
            raise ConnectionClosed(530, f"attempt to reuse consumer tag '{tag}'")
        consumer = Consumer(tag, queue, self, prefetch=self._prefetch, no_ack=no_ack, exclusive=exclusive)
        self._consumers[tag] = consumer
        queue.consumers.append(consumer)
        queue.had_consumer = True
        return tag

    def cancel(self, tag: str) -> None:
        """Stop a consumer; its unacknowledged deliveries stay."""
        if (consumer := self._consumers.pop(tag, None)) is not None:
            self._broker.on_consumer_gone(consumer)

    def drop_consumer(self, consumer: Consumer) -> None:
        """Forget a consumer whose queue was deleted, and inform the client."""
        if self._consumers.pop(consumer.tag, None) is not None:
            self.peer.on_cancel(consumer.tag)

    def get(self, queue_name: str, *, no_ack: bool = False) -> tuple[int, Entry, int] | None:
        """Take one message: its delivery tag, entry, and the number of messages left; None where there is none."""
        queue = self._broker.queue(queue_name, self._owner)
        queue.on_used()
        if (entry := queue.take()) is None:
            return None
        return self.hold(entry, queue, None, keeps=not no_ack), entry, len(queue)

    def hold(self, entry: Entry, queue: Queue, consumer: Consumer | None, *, keeps: bool) -> int:
        """Record a delivery; returns its tag."""
        self._delivered += 1
        if keeps:
            self._unacked[self._delivered] = entry, queue, consumer
            queue.unacked += 1
            if consumer is not None:
                consumer.unacked += 1
        return self._delivered

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Remove delivered messages for good."""
        freed = {queue: None for _, queue in self._settle(tag, multiple=multiple)}
        for queue in freed:
            queue.deliver()

    def reject(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Put delivered messages back into their queues, or make them dead letters."""
        settled = self._settle(tag, multiple=multiple)
        for entry, queue in settled:
            if requeue:
                queue.put_back(entry)
            else:
                queue.reject(entry)
        for queue in {queue: None for _, queue in settled}:
            queue.deliver()

    def recover(self) -> None:
        """Put all unacknowledged messages back."""
        if self._unacked:
            self.reject(0, multiple=True)

    def close(self) -> None:
        """Stop the consumers, then put back what is not acknowledged."""
        for tag in list(self._consumers):
            self.cancel(tag)
        self.recover()

    def _settle(self, tag: int, *, multiple: bool) -> list[tuple[Entry, Queue]]:
        """Take the deliveries up to `tag` (0: all) or only that one; raise ChannelClosed for an unknown tag."""
        if multiple and tag == 0:
            tags = list(self._unacked)
        elif tag not in self._unacked:
            raise ChannelClosed(406, f"unknown delivery tag {tag}")
        else:
            tags = [one for one in self._unacked if one <= tag] if multiple else [tag]
        settled = []
        for one in tags:
            entry, queue, consumer = self._unacked.pop(one)
            queue.unacked -= 1
            if consumer is not None:
                consumer.unacked -= 1
            settled.append((entry, queue))
        return settled

"""A fake link: the test plays the broker."""

from typing import Any, cast

import msgspec

from crew.amqp import Confirm, ConfirmStatus, Consumer, Link
from crew.errors import ConnectionError
from crew.protocol.clock import IN_STEP
from crew.protocol.properties import Properties
from crew.protocol.topology import Binding, Item, Queue
from tests.support.waiting import until


class Published(msgspec.Struct):
    """A published message and its confirm."""

    exchange: str
    key: str
    properties: Properties
    body: bytes
    mandatory: bool
    confirm: Confirm


class FakeLink:
    """A fake Link on a broker that the test plays.

    Attributes:
        breaks: number of publishes that find the channel closed before the link notices.
        topology: declared items.
        declared_once: items that were declared but not remembered.
        changes: number of requests for another channel.
        deleted: names of deleted queues.
    """

    def __init__(self) -> None:
        self.is_ready = True
        self.is_blocked = False
        self.is_replicated = False
        self.clock_offset = IN_STEP
        self.changes = 0
        self.breaks = 0
        self.topology: list[Item] = []
        self.declared_once: list[Item] = []
        self.deleted: list[str] = []
        self.published: list[Published] = []
        self.consumers: dict[str, Consumer] = {}
        self.consumed: list[tuple[str, int]] = []
        self.paused: list[str] = []

    def change_channel(self) -> None:
        """As Link.change_channel."""
        self.changes += 1

    def as_link(self) -> Link:
        """This fake with the type Link."""
        return cast(Link, self)

    def publish(self, exchange: str, key: str, properties: Properties, body: bytes, *, mandatory: bool) -> Confirm:
        """As Link.publish."""
        if self.breaks or not self.is_ready:
            self.breaks = max(0, self.breaks - 1)
            raise ConnectionError("the channel is closed")
        confirm = Confirm(exchange, key, properties, body, mandatory)
        self.published.append(Published(exchange, key, properties, body, mandatory, confirm))
        return confirm

    async def ready(self) -> None:
        """As Link.ready."""
        await until(lambda: self.is_ready)

    async def declare(self, *items: Item) -> None:
        """As Link.declare."""
        self.topology += [item for item in items if item not in self.topology]

    async def declare_once(self, *items: Item) -> None:
        """As Link.declare_once."""
        if not self.is_ready:
            raise ConnectionError("the link is lost")
        self.declared_once += items

    async def unbind(self, binding: Binding) -> None:
        """As Link.unbind."""
        self.topology.remove(binding)

    async def delete_queue(self, queue: Queue) -> None:
        """As Link.delete_queue."""
        self.deleted.append(queue.name)
        self.consumers.pop(queue.name, None)

    def has_consumer(self, queue: str) -> bool:
        """As Link.has_consumer."""
        return queue in self.consumers

    def remember(self, consumer: Consumer) -> None:
        """As Link.remember."""
        self.consumers[consumer.queue] = consumer

    async def consume(self, consumer: Consumer) -> None:
        """As Link.consume."""
        self.remember(consumer)
        self.consumed.append((consumer.queue, consumer.prefetch))

    async def pause(self, queue: str) -> None:
        """As Link.pause."""
        self.consumers.pop(queue, None)
        self.paused.append(queue)

    def confirm_all(self, status: ConfirmStatus = ConfirmStatus.CONFIRMED) -> None:
        """Settle all open confirms with `status`."""
        for one in list(self.published):
            if one.confirm.status is None:
                one.confirm.settle(status)


def never(*_: Any) -> None:
    """A callback that must not be called."""
    raise AssertionError("this must not be called")


def ignored(*_: Any) -> None:
    """A callback that does nothing."""

"""Publishes events, and receives those of the subscribed topics. Subscriptions survive a lost connection."""

import asyncio
import collections
import logging
from collections.abc import Coroutine
from typing import Final

from crew import errors
from crew.amqp import Consumer, Delivery, Link
from crew.client import off_loop
from crew.client.events.event_publisher import EventPublisher
from crew.client.events.subscription import OnEvent, Subscription, Subscriptions
from crew.client.started import PendingEvent
from crew.protocol import properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Event

logger = logging.getLogger(__name__)

EVENT_PREFETCH: Final = 500  # events that the broker delivers ahead
UNREADABLE: Final = "event unreadable, discarding it: topic=%s: %s"


class PubSub:
    """The topics of one client.

    Args:
        client: id of the client; the queue of its subscriptions is named after it.
        publishing: the link to publish on.
        consuming: the link that receives events.
        decode: decodes payloads, within the limits of this client.
        subscriptions: the existing subscriptions; default: none.
        max_message: bytes that an encoded body may have.
    """

    def __init__(
        self,
        client: str,
        *,
        publishing: Link,
        consuming: Link,
        decode: codec.Decode = codec.decode,
        subscriptions: Subscriptions | None = None,
        max_message: int = codec.MAX_BODY,
    ) -> None:
        self._client = client
        self._consuming = consuming
        self._queue = topology.subscription_queue(client)
        self._subscriptions = Subscriptions(decode) if subscriptions is None else subscriptions
        for subscription in self._subscriptions:
            subscription.renew(self._close)
        self._order = asyncio.Lock()  # keeps unbind and bind of one topic in their order
        self._tasks: set[asyncio.Task[None]] = set()
        self._publisher = EventPublisher(publishing, max_message=max_message)
        self._waiting: collections.deque[Delivery] = collections.deque()  # behind a large event that is being decoded
        self._is_open = False

    def open(self) -> None:
        """Declare the subscriptions that were made before an event loop ran; idempotent."""
        if not self._is_open:
            self._is_open = True
            for subscription in self._subscriptions:
                self._in_background(self._activate(subscription))

    def on_ready(self) -> None:
        """Declare the subscriptions again that the broker has refused before."""
        for subscription in self._subscriptions:
            if self._is_open and subscription.has_failed:
                self._in_background(self._activate(subscription))

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """The background tasks."""
        return self._tasks | self._publisher.tasks

    async def close(self) -> None:
        """End every subscription, and delete the queue."""
        self._is_open = False
        for task in list(self._tasks):
            task.cancel()
        for subscription in self._subscriptions:
            subscription.fail(errors.ConnectionError("the client was closed", missing="client"))
        if self._consuming.is_ready and self._consuming.has_consumer(self._queue.name):
            await self._consuming.delete_queue(self._queue)

    # --- publish ----------------------------------------------------------------------------------------------------

    def start(self, event: Event, timeout: float) -> PendingEvent:
        """See EventPublisher.start."""
        return self._publisher.start(event, timeout)

    async def publish(self, event: Event, timeout: float) -> None:
        """See EventPublisher.publish."""
        await self._publisher.publish(event, timeout)

    async def sent(self, within: float) -> None:
        """See EventPublisher.sent."""
        await self._publisher.sent(within)

    # --- subscribe --------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, callback: OnEvent) -> Subscription:
        """Call `callback` with every Event on `topic`; raises ValueError for a bad topic or callback."""
        if not callable(callback):
            raise ValueError(f"callback must be callable, not {callback!r}")
        subscription = Subscription(topic, callback, self._close)
        self._subscriptions.add(subscription)
        if self._is_open:
            self._in_background(self._activate(subscription))
        return subscription

    def unsubscribe(self, topic: str, callback: OnEvent | None) -> None:
        """Close the subscriptions to `topic`, or only those of `callback`."""
        for subscription in self._subscriptions.of(topic, callback):
            self._close(subscription)

    def _close(self, subscription: Subscription) -> None:
        if self._subscriptions.remove(subscription) and self._is_open:
            self._in_background(self._deactivate(subscription.topic))

    async def _activate(self, subscription: Subscription) -> None:
        try:
            await self._declare(subscription)
        except errors.ConnectionError as error:
            subscription.fail(error)
            raise
        subscription.activate()

    async def _declare(self, subscription: Subscription) -> None:
        async with self._order:
            await self._consuming.declare(self._queue, topology.subscription(self._client, subscription.topic))
            if not self._consuming.has_consumer(self._queue.name):
                await self._consuming.consume(Consumer(self._queue.name, self._on_event, EVENT_PREFETCH, is_only=True))
        await self._consuming.ready()

    async def _deactivate(self, topic: str) -> None:
        async with self._order:
            if not self._subscriptions.of(topic, None):
                await self._consuming.unbind(topology.subscription(self._client, topic))

    def _on_event(self, delivery: Delivery) -> None:
        """Pass an event to the callbacks, in order: events behind a large one wait until that is decoded."""
        if self._waiting or len(delivery.body) > codec.LARGE or delivery.properties.content_encoding:
            delivery.hold()
            self._waiting.append(delivery)
            if len(self._waiting) == 1:
                self._in_background(self._deliver_waiting())
            return
        try:
            self._subscriptions.deliver(properties.to_event(delivery.topic, delivery.properties, delivery.body))
        except (properties.MalformedMessage, errors.SerializationError) as error:
            logger.warning(UNREADABLE, delivery.topic, error)
        finally:
            delivery.ack_through()

    async def _deliver_waiting(self) -> None:
        """Decode large events in a thread, and pass the waiting events to the callbacks in their order."""
        while self._waiting:
            delivery = self._waiting[0]
            try:
                event = properties.to_event(delivery.topic, delivery.properties, delivery.body)
                payload = await off_loop.decoded(event.body, self._subscriptions.decode)
                if delivery.is_ours:  # else the broker delivers it again
                    self._subscriptions.deliver_decoded(event, payload)
            except (properties.MalformedMessage, errors.SerializationError) as error:
                logger.warning(UNREADABLE, delivery.topic, error)
            finally:
                delivery.ack()
                self._waiting.popleft()

    # --- in the background ------------------------------------------------------------------------------------------

    def _in_background(self, step: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("subscription failed: client=%s: %s", self._client, error)

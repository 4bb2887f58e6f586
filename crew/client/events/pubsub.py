"""Publishes events, and receives those of the subscribed topics. Subscriptions survive a lost connection."""

import asyncio
import collections
import logging
import time
from collections.abc import Coroutine
from typing import Final

import msgspec

from crew import errors
from crew.amqp import Confirm, ConfirmStatus, Consumer, Delivery, Link
from crew.amqp.outbox.policy import AGAIN_AFTER
from crew.client import off_loop
from crew.client.calling.calls import BLOCKED
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
        self._max_message = max_message
        self._publishing = publishing
        self._consuming = consuming
        self._queue = topology.subscription_queue(client)
        self._subscriptions = Subscriptions(decode) if subscriptions is None else subscriptions
        for subscription in self._subscriptions:
            subscription.renew(self._close)
        self._order = asyncio.Lock()  # keeps unbind and bind of one topic in their order
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: set[asyncio.Task[None]] = set()  # on their way to the broker
        self._delayed = 0  # number of events that could not be published at once, and whose turn has not come
        self._turn = asyncio.Lock()  # keeps them in their order
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
        return self._tasks | self._events

    async def sent(self, within: float) -> None:
        """Wait, for at most `within` seconds, until the current events are published or have failed."""
        if self._events:
            await asyncio.wait(self._events, timeout=within)

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
        """Start to publish `event`, at once if the broker is connected; raises Overloaded. Needs a running loop."""
        publishing = asyncio.get_running_loop().create_task(self._publish(event, self._begin_at_once(event), timeout))
        self._events.add(publishing)
        publishing.add_done_callback(self._events.discard)
        return PendingEvent(event.topic, publishing)

    async def publish(self, event: Event, timeout: float) -> None:
        """Publish `event`; returns when the broker has it.

        Raises:
            ConnectionError: the broker did not take it within `timeout` seconds.
            Overloaded: the broker has blocked publishing.
            TooLarge: the event exceeds the max_message_size of the broker.
            MessageRefused: the broker does not accept the message for another reason.
        """
        await self._publish(event, self._begin_at_once(event), timeout)

    async def _publish(self, event: Event, confirm: Confirm | None, timeout: float) -> None:
        """Publish until the broker confirms; `confirm` is of the first attempt, or None if it was not made."""
        try:
            async with asyncio.timeout(timeout):
                if confirm is None:
                    event, confirm = await self._begun_in_turn(event)
                while (status := await (confirm := await self._begun(event, confirm))) is not ConfirmStatus.CONFIRMED:
                    reason, confirm = confirm.reason, None
                    if status is ConfirmStatus.TOO_LARGE:
                        size = len(event.body.data)
                        raise errors.TooLarge(
                            f"the event on {event.topic!r} has {size} bytes, more than the broker's max_message_size"
                        )
                    if status is ConfirmStatus.INVALID:
                        raise errors.MessageRefused(
                            f"the broker does not accept the event on {event.topic!r}: {reason}"
                        )
                    if not event.persistent:
                        raise errors.ConnectionError(
                            f"the event on {event.topic!r} may be lost: the connection broke before its confirm"
                        )
                    if status is ConfirmStatus.REFUSED:  # a quorum queue is electing its leader
                        self._publishing.change_channel()
                        await asyncio.sleep(AGAIN_AFTER)
        except TimeoutError:
            raise errors.ConnectionError(
                f"the broker did not take the event on {event.topic!r} within {timeout:g} s"
            ) from None

    async def _begun_in_turn(self, event: Event) -> tuple[Event, Confirm]:
        """Publish it when it is compressed, the broker is connected, and all earlier events are published."""
        try:
            async with self._turn:
                body = await off_loop.compressed(event.body, self._max_message)
                event = msgspec.structs.replace(event, body=body)
                return event, await self._begun(event, None)
        finally:
            self._delayed -= 1

    async def _begun(self, event: Event, confirm: Confirm | None) -> Confirm:
        """The confirm of the current attempt: `confirm`, or that of a new attempt when the broker is connected."""
        while confirm is None:
            await self._publishing.ready()
            confirm = self._begin(event)
        if confirm.status is ConfirmStatus.LOST:  # the connection has just broken
            await asyncio.sleep(0)
        return confirm

    def _begin_at_once(self, event: Event) -> Confirm | None:
        """As `_begin`, but None also if it has to be compressed, or if earlier events are delayed."""
        has_to_wait = (event.body.to_compress or self._delayed) and not self._publishing.is_blocked
        confirm = None if has_to_wait else self._begin(event)
        self._delayed += confirm is None
        return confirm

    def _begin(self, event: Event) -> Confirm | None:
        """Publish it now; None if the broker is not connected. Raises Overloaded."""
        if self._publishing.is_blocked:
            raise errors.Overloaded(BLOCKED)
        if not self._publishing.is_ready:
            return None
        fields = properties.of_event(event, now=time.time())
        try:
            return self._publishing.publish(topology.PUBSUB, event.topic, fields, event.body.data, mandatory=False)
        except errors.ConnectionError:  # the connection has just broken
            return Confirm(status=ConfirmStatus.LOST)

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

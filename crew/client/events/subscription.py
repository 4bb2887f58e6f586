"""Subscriptions: the topics of a client, and the callbacks that get their events."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import msgspec

from crew.client.calling.callback import call_back
from crew.protocol import topology
from crew.protocol.encoding import codec
from crew.protocol.message import Event as EncodedEvent
from crew.protocol.message import Headers


class Event(msgspec.Struct, frozen=True):
    """One published message on a topic.

    Attributes:
        topic: that it was published on; not a pattern.
        payload: the published value.
        headers: of the publisher.
    """

    topic: str
    payload: Any
    headers: Headers


OnEvent = Callable[[Event], object]


class Subscription:
    """The handle that `Client.subscribe` returns.

    Args:
        topic: a pattern of words between dots; `*` matches one word, `#` any number of words.
        callback: called with each Event, in the context of the code that subscribed; may be a coroutine function.
        on_close: called when the subscription is closed.
    """

    def __init__(self, topic: str, callback: OnEvent, on_close: "Callable[[Subscription], None]") -> None:
        self.topic = topology.check_topic(topic)
        self.callback = callback
        self._on_close = on_close
        self._context = copy_context()  # not the context of the first call, which opened the connection
        self._is_settled = asyncio.Event()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        is_active = self._is_settled.is_set() and not self.has_failed
        return f"<Subscription to {self.topic}: {'active' if is_active else 'not yet active'}>"

    @property
    def has_failed(self) -> bool:
        """Whether the broker has refused it; a retry may succeed later."""
        return self._error is not None

    def close(self) -> None:
        """Unsubscribe; idempotent."""
        self._on_close(self)

    async def ready(self) -> None:
        """Wait until the broker has the subscription: events that are published from now on arrive.

        Raises:
            ConnectionError: the broker refuses the connection or the subscription, or the client was closed.
        """
        await self._is_settled.wait()
        if self._error is not None:
            raise copy.copy(self._error)  # one shared error would keep the stacks of all who raise it

    def renew(self, on_close: "Callable[[Subscription], None]") -> None:
        """Reset it for a new connection, on which it is not declared yet."""
        self._on_close = on_close
        self._is_settled = asyncio.Event()
        self._error = None

    def activate(self) -> None:
        """Mark it as declared at the broker."""
        self._error = None
        self._is_settled.set()

    def fail(self, error: Exception) -> None:
        """Mark it as failed, unless it is declared already."""
        if not self._is_settled.is_set():
            self._error = error
            self._is_settled.set()

    def matches(self, topic: str) -> bool:
        """Whether an event on `topic` belongs to this subscription."""
        return topology.topic_matches(self.topic, topic)

    def deliver(self, event: Event) -> None:
        """Call the callback with `event`; its errors are logged."""
        self._context.run(call_back, self.callback, event, of=f"subscription topic={self.topic}")


class Subscriptions:
    """All subscriptions of one client. A topic may have several.

    Args:
        decode: decodes payloads, within the limits of this client.
    """

    def __init__(self, decode: codec.Decode = codec.decode) -> None:
        self.decode = decode
        self._by_topic: dict[str, list[Subscription]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_topic.values()))

    def __iter__(self) -> Iterator[Subscription]:
        return iter([one for same in self._by_topic.values() for one in same])

    def add(self, subscription: Subscription) -> bool:
        """Add it; whether it is the first of its topic."""
        same = self._by_topic.setdefault(subscription.topic, [])
        same.append(subscription)
        return len(same) == 1

    def remove(self, subscription: Subscription) -> bool:
        """Remove it; whether it was the last of its topic."""
        same = self._by_topic.get(subscription.topic, [])
        if subscription not in same:
            return False
        same.remove(subscription)
        if not same:
            del self._by_topic[subscription.topic]
        return not same

    def of(self, topic: str, callback: OnEvent | None) -> list[Subscription]:
        """The subscriptions to the pattern `topic`; only those with `callback`, if one is given."""
        return [one for one in self._by_topic.get(topic, []) if callback is None or one.callback == callback]

    def deliver(self, message: EncodedEvent) -> None:
        """Pass an event to each matching subscription; raises SerializationError if it cannot be decoded."""
        self.deliver_decoded(message, self.decode(message.body))

    def deliver_decoded(self, message: EncodedEvent, payload: Any) -> None:
        """As `deliver`, for a payload that is decoded already."""
        event = Event(message.topic, payload, message.headers)
        for subscription in self:
            if subscription.matches(event.topic):
                subscription.deliver(event)

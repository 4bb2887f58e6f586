"""Topics that a client listens to, and the callbacks that hear of their events."""

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
        topic: on which it was published; no pattern.
        payload: what was published.
        headers: the publisher's own.
    """

    topic: str
    payload: Any
    headers: Headers


OnEvent = Callable[[Event], object]


class Subscription:
    """The handle that `Client.subscribe` returns.

    Args:
        topic: pattern of words between dots; `*` is one word, `#` any number of them.
        callback: called with each Event, in the context of whoever subscribed; may be a coroutine function.
        on_close: told when it is closed.
    """

    def __init__(self, topic: str, callback: OnEvent, on_close: "Callable[[Subscription], None]") -> None:
        self.topic = topology.check_topic(topic)
        self.callback = callback
        self._on_close = on_close
        self._context = copy_context()  # else it would be that of the first call, which opened the connection
        self._is_settled = asyncio.Event()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        is_active = self._is_settled.is_set() and not self.has_failed
        return f"<Subscription to {self.topic}: {'active' if is_active else 'not yet active'}>"

    @property
    def has_failed(self) -> bool:
        """Whether the broker could not be told of it; it may be yet."""
        return self._error is not None

    def close(self) -> None:
        """Hear of no more events; idempotent."""
        self._on_close(self)

    async def ready(self) -> None:
        """Wait until the broker knows of it: events that are published from now on arrive.

        Raises:
            ConnectionError: the broker refuses us, or the client was closed.
        """
        await self._is_settled.wait()
        if self._error is not None:
            raise copy.copy(self._error)  # each who waits has a stack of his own

    def renew(self, on_close: "Callable[[Subscription], None]") -> None:
        """It is that of another connection from now on, which knows nothing of it; `on_close` is told instead."""
        self._on_close = on_close
        self._is_settled = asyncio.Event()
        self._error = None

    def activate(self) -> None:
        """The broker knows of it."""
        self._error = None
        self._is_settled.set()

    def fail(self, error: Exception) -> None:
        """The broker cannot be told of it; nothing where it knows."""
        if not self._is_settled.is_set():
            self._error = error
            self._is_settled.set()

    def matches(self, topic: str) -> bool:
        """Whether an event of `topic` is one of its own."""
        return topology.topic_matches(self.topic, topic)

    def hear(self, event: Event) -> None:
        """Call back; what the callback raises is logged."""
        self._context.run(call_back, self.callback, event, of=f"a subscription to {self.topic}")


class Subscriptions:
    """All subscriptions of one client, several a topic.

    Args:
        decode: what this client accepts.
    """

    def __init__(self, decode: codec.Decode = codec.decode) -> None:
        self.decode = decode
        self._by_topic: dict[str, list[Subscription]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_topic.values()))

    def __iter__(self) -> Iterator[Subscription]:
        return iter([one for same in self._by_topic.values() for one in same])

    def add(self, subscription: Subscription) -> bool:
        """Whether it is the first of its topic."""
        same = self._by_topic.setdefault(subscription.topic, [])
        same.append(subscription)
        return len(same) == 1

    def remove(self, subscription: Subscription) -> bool:
        """Whether it was the last of its topic."""
        same = self._by_topic.get(subscription.topic, [])
        if subscription not in same:
            return False
        same.remove(subscription)
        if not same:
            del self._by_topic[subscription.topic]
        return not same

    def of(self, topic: str, callback: OnEvent | None) -> list[Subscription]:
        """Those that were made for the pattern `topic`, with `callback` where one is given."""
        return [one for one in self._by_topic.get(topic, []) if callback is None or one.callback == callback]

    def hear(self, message: EncodedEvent) -> None:
        """Call back everybody whose topic matches; raises SerializationError where it cannot be decoded."""
        self.tell(message, self.decode(message.body))

    def tell(self, message: EncodedEvent, payload: Any) -> None:
        """As `hear`, where its payload is decoded already."""
        event = Event(message.topic, payload, message.headers)
        for subscription in self:
            if subscription.matches(event.topic):
                subscription.hear(event)

"""A queue of the in-memory broker: order, time to live, limits, consumers.

The rules follow RabbitMQ's `rabbit_amqqueue_process`. A message expires only at the head of its queue. The timer for
it is set when a message arrives in an empty queue, and whenever the head has been removed. So a message with a higher
priority that arrives in front of another one is late, or is delivered although it is dead.
"""

import bisect
import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from crew.testing.broker.errors import ChannelClosed
from crew.testing.broker.message import Entry, Message

MOST_PRIORITIES: Final = 255
_NUMBERS: Final = ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority")
_OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")


class Receiver(Protocol):
    """A consumer, as its queue sees it.

    Attributes:
        exclusive: whether the queue has no other consumer.
    """

    exclusive: bool

    @property
    def has_room(self) -> bool:
        """Whether it takes one more delivery."""

    def deliver(self, entry: Entry) -> None:
        """Deliver the message of `entry`."""

    def on_queue_deleted(self) -> None:
        """The queue does not exist any longer."""


OnDead = Callable[["Queue", Entry, str], None]


class Queue:
    """A queue.

    Args:
        owner: the connection to which an exclusive queue belongs; None: the queue is not exclusive.
        clock: seconds.
        on_dead: called with each message that leaves the queue as a dead letter, and with the reason.
    """

    def __init__(
        self,
        name: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        owner: object | None = None,
        arguments: Mapping[str, Any],
        clock: Callable[[], float],
        on_dead: OnDead,
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments = {"x-queue-type": "classic", **arguments}
        _check(self.arguments, durable=durable, exclusive=owner is not None)
        self._clock = clock
        self._on_dead = on_dead
        levels = min(int(self.arguments.get("x-max-priority", 0)), MOST_PRIORITIES) + 1
        self._levels: list[collections.deque[Entry]] = [collections.deque() for _ in range(levels)]
        self._bytes = 0
        self._position = 0
        self._expiry_at: float | None = None  # when the head is checked
        self.unacked = 0
        self.consumers: collections.deque[Receiver] = collections.deque()
        self.had_consumer = False
        self._unused_since = clock()

    def __repr__(self) -> str:
        return f"<Queue {self.name}: {len(self)} messages, {self.unacked} unacked, {len(self.consumers)} consumers>"

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def __iter__(self) -> Iterator[Entry]:
        for level in reversed(self._levels):
            yield from level

    @property
    def is_quorum(self) -> bool:
        """Whether it is a quorum queue, which counts deliveries."""
        return bool(self.arguments["x-queue-type"] == "quorum")

    # --- messages ---------------------------------------------------------------------------------------------------

    def is_refusing(self, message: Message) -> bool:
        """Whether the queue is full and refuses what is published."""
        return str(self.arguments.get("x-overflow", "")).startswith("reject-publish") and self._is_full(message, 1)

    def put(self, message: Message) -> None:
        """Add a message that was routed here; a full queue loses its head, or refuses the message as a dead letter."""
        if self.is_refusing(message):
            if self.arguments["x-overflow"] == "reject-publish-dlx":
                self._on_dead(self, self._entry(message), "maxlen")
            return
        entry = self._entry(message)
        self._level_of(message).append(entry)
        self._bytes += len(message.body)
        self.deliver()
        while len(self) and self._is_full(None, 0):
            self._on_dead(self, self._pop(), "maxlen")
        if len(self) == 1 and entry.expires_at is not None:
            self.drop_expired()

    def take(self) -> Entry | None:
        """Remove and return the head; None where the queue is empty."""
        if not len(self):
            return None
        entry = self._pop()
        self.drop_expired()
        return entry

    def put_back(self, entry: Entry) -> None:
        """Put back a message that was delivered and not acknowledged, to its former position."""
        entry.is_redelivered = True
        entry.returns += 1
        limit = self.arguments.get("x-delivery-limit", -1) if self.is_quorum else -1
        if 0 <= int(limit) < entry.returns:
            self._on_dead(self, entry, "delivery_limit")
            return
        level = self._level_of(entry.message)
        if self.is_quorum:
            headers = {**entry.message.headers, "x-delivery-count": entry.returns}
            entry.message = entry.message.with_properties(headers=headers)
        bisect.insort(level, entry, key=lambda one: one.position)
        self._bytes += len(entry.message.body)
        self.drop_expired()

    def reject(self, entry: Entry) -> None:
        """Remove for good a message that a consumer has rejected."""
        self._on_dead(self, entry, "rejected")

    def purge(self) -> int:
        """Remove the messages that are ready; returns their number."""
        count = len(self)
        for level in self._levels:
            level.clear()
        self._bytes = 0
        return count

    def drop_expired(self) -> None:
        """Remove the dead messages at the head, and set the timer for the next head."""
        now = self._clock()
        while (head := self._head()) is not None and head.is_dead(now):
            self._on_dead(self, self._pop(), "expired")
        self._expiry_at = None if head is None else head.expires_at

    def _entry(self, message: Message) -> Entry:
        self._position += 1
        lives = [message.expiration]
        if (queue_ttl := self.arguments.get("x-message-ttl")) is not None:
            lives.append(int(queue_ttl) / 1000)
        life = min((one for one in lives if one is not None), default=None)
        return Entry(
            message=message, position=self._position, expires_at=None if life is None else self._clock() + life
        )

    def _level_of(self, message: Message) -> "collections.deque[Entry]":
        return self._levels[min(message.priority, len(self._levels) - 1)]

    def _head(self) -> Entry | None:
        return next(iter(self), None)

    def _pop(self) -> Entry:
        level = next(level for level in reversed(self._levels) if level)
        entry = level.popleft()
        self._bytes -= len(entry.message.body)
        return entry

    def _is_full(self, message: Message | None, more: int) -> bool:
        size = 0 if message is None else len(message.body)
        for name, used in (("x-max-length", len(self) + more), ("x-max-length-bytes", self._bytes + size)):
            if (limit := self.arguments.get(name)) is not None and used > int(limit):
                return True
        return False

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def due_at(self) -> float | None:
        """When `on_time` has something to do; None: never."""
        return min((at for at in (self._expiry_at, self._unused_at) if at is not None), default=None)

    @property
    def is_expired(self) -> bool:
        """Whether it has been unused for longer than `x-expires`."""
        return self._unused_at is not None and self._unused_at <= self._clock()

    def on_used(self) -> None:
        """Start `x-expires` again: it was declared, read or lost its last consumer."""
        self._unused_since = self._clock()

    def on_time(self) -> None:
        """Remove what is dead by now."""
        if self._expiry_at is not None and self._expiry_at <= self._clock():
            self.drop_expired()

    @property
    def _unused_at(self) -> float | None:
        expires = self.arguments.get("x-expires")
        return None if expires is None or self.consumers else self._unused_since + int(expires) / 1000

    # --- consumers --------------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Deliver messages while a consumer takes them: the consumers in turn."""
        while len(self) and (consumer := self._next_consumer()) is not None:
            entry = self.take()
            assert entry is not None
            consumer.deliver(entry)

    def _next_consumer(self) -> Receiver | None:
        if self.arguments.get("x-single-active-consumer"):
            return self.consumers[0] if self.consumers and self.consumers[0].has_room else None
        for _ in range(len(self.consumers)):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if consumer.has_room:
                return consumer
        return None


def _check(arguments: Mapping[str, Any], *, durable: bool, exclusive: bool) -> None:
    """Raise ChannelClosed for arguments that RabbitMQ refuses."""
    kind = arguments["x-queue-type"]
    if kind not in ("classic", "quorum"):
        raise ChannelClosed(406, f"invalid arg 'x-queue-type' for queue: {kind!r}")
    for name in _NUMBERS:
        value = arguments.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ChannelClosed(406, f"invalid arg '{name}' for queue: {{unacceptable_type,{value!r}}}")
        if value < 0 or (name == "x-expires" and value == 0):
            raise ChannelClosed(406, f"invalid arg '{name}' for queue: {{value_negative,{value}}}")
    if arguments.get("x-overflow", _OVERFLOWS[0]) not in _OVERFLOWS:
        raise ChannelClosed(406, f"invalid arg 'x-overflow' for queue: {arguments['x-overflow']!r}")
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise ChannelClosed(406, "invalid arg 'x-dead-letter-routing-key' for queue: routing_key_but_no_dlx_defined")
    if kind == "quorum" and (not durable or exclusive or "x-max-priority" in arguments):
        raise ChannelClosed(406, "invalid property or argument for a quorum queue")

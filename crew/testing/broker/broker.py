"""The rules of the in-memory broker, without I/O: exchanges, queues, bindings, dead letters.

Time passes only by its clock: its caller calls `on_time` at `due_at`.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from crew.testing.broker.channel import Channel, Consumer, Peer
from crew.testing.broker.errors import ChannelClosed
from crew.testing.broker.exchange import TYPES, Binding, Exchange
from crew.testing.broker.message import Entry, Message, dead_letter, is_cycle
from crew.testing.broker.queue import Queue

VERSION: Final = "3.10.0"  # of the RabbitMQ whose rules these are
_PREDECLARED: Final = (
    ("", "direct"),
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.topic", "topic"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
)


class Broker:
    """One virtual host of a broker.

    Args:
        clock: seconds, for all that expires. Default: time.monotonic.
        wall: epoch seconds, for the time in a dead letter. Default: time.time.

    Attributes:
        queue_class: makes the queues; a test replaces it in a subclass.
    """

    queue_class: type[Queue] = Queue

    def __init__(self, *, clock: Callable[[], float] | None = None, wall: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._wall = wall or time.time
        self._numbers = itertools.count(1)
        self.exchanges = {name: Exchange(name, type, durable=True, auto_delete=False) for name, type in _PREDECLARED}
        self.queues: dict[str, Queue] = {}

    def __repr__(self) -> str:
        return f"<Broker: {len(self.queues)} queues, {sum(map(len, self.queues.values()))} messages>"

    def open_channel(self, peer: Peer, *, owner: object) -> Channel:
        """Open a channel for the client `peer`; `owner` is its connection."""
        return Channel(self, peer, owner=owner)

    def new_name(self, prefix: str = "amq.gen-") -> str:
        """A name that nothing else has."""
        return f"{prefix}{next(self._numbers)}"

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def due_at(self) -> float | None:
        """When `on_time` has to be called next; None: not yet."""
        return min((at for queue in self.queues.values() if (at := queue.due_at) is not None), default=None)

    def on_time(self) -> None:
        """Expire messages and queues whose time is over."""
        for queue in list(self.queues.values()):
            if queue.is_expired:
                self._remove(queue)
            else:
                queue.on_time()

    # --- exchanges --------------------------------------------------------------------------------------------------

    def declare_exchange(
        self,
        name: str,
        type: str = "direct",
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
    ) -> None:
        """Declare an exchange; raise ChannelClosed where it exists with other properties."""
        found = self.exchanges.get(name)
        if found is None:
            if passive:
                raise ChannelClosed(404, f"no exchange '{name}' in vhost '/'")
            if name.startswith("amq."):
                raise ChannelClosed(403, f"exchange name '{name}' contains reserved prefix 'amq.*'")
            if type not in TYPES:
                raise ChannelClosed(406, f"invalid exchange type '{type}'")
            self.exchanges[name] = Exchange(name, type, durable=durable, auto_delete=auto_delete, internal=internal)
            return
        if passive:
            return
        if name == "":
            raise ChannelClosed(403, "operation not permitted on the default exchange")
        given = {"type": type, "durable": durable, "auto_delete": auto_delete, "internal": internal}
        for attribute, value in given.items():
            if (current := getattr(found, attribute)) != value:
                raise ChannelClosed(406, _inequivalent(attribute, "exchange", name, value, current))

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange; do nothing where it does not exist."""
        if name == "" or name.startswith("amq."):
            raise ChannelClosed(403, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        if (found := self.exchanges.get(name)) is None:
            return
        if if_unused and found.bindings:
            raise ChannelClosed(406, f"exchange '{name}' in vhost '/' in use")
        del self.exchanges[name]

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name; raise ChannelClosed where there is none."""
        if (found := self.exchanges.get(name)) is None:
            raise ChannelClosed(404, f"no exchange '{name}' in vhost '/'")
        return found

    def bind(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any], owner: object) -> None:
        """Bind `queue` to `exchange`."""
        if exchange == "":
            raise ChannelClosed(403, "operation not permitted on the default exchange")
        found = self.queue(queue, owner)
        self.exchange(exchange).bind(Binding(found.name, key, dict(arguments)))

    def unbind(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any], owner: object) -> None:
        """Remove a binding; do nothing where it does not exist."""
        found = self.exchanges.get(exchange)
        if found is None or queue not in self.queues:
            return
        self.queue(queue, owner)
        found.unbind(Binding(queue, key, dict(arguments)))
        self._delete_if_unused(found)

    def _delete_if_unused(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self.exchanges.pop(exchange.name, None)

    # --- queues -----------------------------------------------------------------------------------------------------

    def declare_queue(
        self,
        name: str = "",
        *,
        owner: object,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Queue:
        """Declare a queue; raise ChannelClosed where it exists with other arguments."""
        if passive:
            found = self.queue(name, owner)
            found.on_used()
            return found
        if name in self.queues:
            found = self.queue(name, owner)
            self._check_equivalent(found, durable, exclusive, auto_delete, arguments or {})
            found.on_used()
            return found
        if name.startswith("amq."):
            raise ChannelClosed(403, f"queue name '{name}' contains reserved prefix 'amq.*'")
        name = name or self.new_name()
        made = self.queues[name] = self.queue_class(
            name,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner if exclusive else None,
            arguments=arguments or {},
            clock=self._clock,
            on_dead=self._on_dead,
        )
        return made

    def queue(self, name: str, owner: object) -> Queue:
        """The queue of that name; raise ChannelClosed where there is none, or another connection owns it."""
        if (found := self.queues.get(name)) is None:
            raise ChannelClosed(404, f"no queue '{name}' in vhost '/'")
        if found.owner not in (None, owner):
            raise ChannelClosed(
                405,
                f"cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally "
                "declared on another connection or the exclusive property value does not match that of the original "
                "declaration.",
            )
        return found

    def delete_queue(self, name: str, *, owner: object, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue; returns the number of its messages."""
        if name not in self.queues:
            return 0
        found = self.queue(name, owner)
        if if_unused and found.consumers:
            raise ChannelClosed(406, f"queue '{name}' in vhost '/' in use")
        if if_empty and len(found):
            raise ChannelClosed(406, f"queue '{name}' in vhost '/' is not empty")
        count = len(found)
        self._remove(found)
        return count

    def close_owner(self, owner: object) -> None:
        """A connection has closed: delete its exclusive queues."""
        for queue in [one for one in self.queues.values() if one.owner is owner]:
            self._remove(queue)

    def on_consumer_gone(self, consumer: Consumer) -> None:
        """A consumer was canceled: an auto-delete queue goes with its last one."""
        queue = consumer.queue
        if consumer in queue.consumers:
            queue.consumers.remove(consumer)
        if not queue.consumers:
            queue.on_used()
            if queue.auto_delete and queue.had_consumer and self.queues.get(queue.name) is queue:
                self._remove(queue)
                return
        queue.deliver()

    def _remove(self, queue: Queue) -> None:
        self.queues.pop(queue.name, None)
        consumers = list(queue.consumers)
        queue.consumers.clear()
        queue.purge()
        for exchange in list(self.exchanges.values()):
            had = len(exchange.bindings)
            exchange.forget(queue.name)
            if had and len(exchange.bindings) < had:
                self._delete_if_unused(exchange)
        for consumer in consumers:
            consumer.on_queue_deleted()

    def _check_equivalent(
        self, found: Queue, durable: bool, exclusive: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        current: dict[str, Any] = {"durable": found.durable, "auto_delete": found.auto_delete}
        given: dict[str, Any] = {"durable": durable, "auto_delete": auto_delete}
        if exclusive != (found.owner is not None):
            raise ChannelClosed(405, f"cannot obtain exclusive access to locked queue '{found.name}' in vhost '/'.")
        known = {"x-queue-type": "classic", **arguments}
        for name in sorted({*found.arguments, *known} & CHECKED_ARGUMENTS):
            current[name], given[name] = found.arguments.get(name), known.get(name)
        for name, value in given.items():
            if value != current[name]:
                raise ChannelClosed(406, _inequivalent(name, "queue", found.name, value, current[name]))

    # --- messages ---------------------------------------------------------------------------------------------------

    def route(self, message: Message) -> Sequence[Queue]:
        """The queues that get `message`, each once; raise ChannelClosed where its exchange does not exist."""
        exchange = self.exchange(message.exchange)
        if exchange.internal:
            raise ChannelClosed(403, f"cannot publish to internal exchange '{exchange.name}' in vhost '/'")
        message.expiration  # noqa: B018  # raises where it is invalid
        return self._queues_of(exchange, message)

    def is_returned(self, queues: Sequence[Queue]) -> bool:
        """Whether a mandatory message that goes to `queues` is returned to its sender."""
        return not queues

    def _queues_of(self, exchange: Exchange, message: Message) -> list[Queue]:
        keys = [message.routing_key, *message.headers.get("CC", ()), *message.headers.get("BCC", ())]
        names: dict[str, None] = {}
        for key in keys:
            names |= dict.fromkeys([key] if exchange.name == "" else exchange.route(key, message.headers))
        return [self.queues[name] for name in names if name in self.queues]

    def _on_dead(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Send a dead message to the dead letter exchange of its queue, where it has one."""
        if (target := queue.arguments.get("x-dead-letter-exchange")) is None:
            return
        if (exchange := self.exchanges.get(target)) is None:
            return
        dead = dead_letter(
            entry.message,
            queue=queue.name,
            reason=reason,
            routing_key=queue.arguments.get("x-dead-letter-routing-key"),
            wall=self._wall(),
        )
        routed = Message(exchange=target, routing_key=dead.routing_key, properties=dead.properties, body=dead.body)
        for next_queue in self._queues_of(exchange, routed):
            if not (reason != "rejected" and is_cycle(routed, next_queue.name)):
                next_queue.put(routed)


CHECKED_ARGUMENTS: Final = frozenset(
    {
        "x-queue-type",
        "x-max-priority",
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-delivery-limit",
        "x-single-active-consumer",
    }
)


def _inequivalent(argument: str, kind: str, name: str, received: Any, current: Any) -> str:
    def shown(value: Any) -> str:
        if value is None:
            return "none"
        return f"'{str(value).lower() if isinstance(value, bool) else value}'"

    return (
        f"inequivalent arg '{argument}' for {kind} '{name}' in vhost '/': "
        f"received {shown(received)} but current is {shown(current)}"
    )

"""What the cases of the contract use: a connection of pika, which knows nothing of crew."""

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from tests.support.waiting import SOON, eventually

SHORT = 20  # ms: time to live of a message that is to expire
SETTLED = 4 * SHORT  # ms: what has not expired by then does not expire


class Got(msgspec.Struct, frozen=True):
    """A message that was read."""

    body: str
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Any
    tag: int

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers."""
        return self.properties.headers or {}

    @property
    def deaths(self) -> list[tuple[str, str, int]]:
        """Queue, reason and count of each time that it was dead-lettered, the newest first."""
        return [(one["queue"], one["reason"], one["count"]) for one in self.headers.get("x-death", ())]


class Consumer:
    """A consumer, and what it has received."""

    def __init__(self, bench: "Bench", channel: Any, tag: str, got: list[Got]) -> None:
        self._bench, self.channel, self.tag, self.got = bench, channel, tag, got
        self.is_canceled = False
        channel.add_on_cancel_callback(self._on_cancel)

    def _on_cancel(self, _: Any) -> None:
        self.is_canceled = True

    def bodies(self, count: int) -> list[str]:
        """The bodies, once there are `count`."""
        self._bench.wait_until(lambda: len(self.got) >= count)
        return [one.body for one in self.got]

    def cancel(self) -> None:
        """Stop it."""
        self.channel.basic_cancel(self.tag)


class Bench:
    """A broker under test, with names of its own for each case.

    Args:
        url: of the broker.
        patience: seconds that it waits for something to happen.
    """

    def __init__(self, url: str, *, patience: float = SOON) -> None:
        self._patience = patience
        self._parameters = pika.URLParameters(url)
        self.connection = pika.BlockingConnection(self._parameters)
        self.channel: Any = None
        self.prefix = ""
        self._queues: list[str] = []
        self._exchanges: list[str] = []
        self._channels: list[Any] = []
        self._others: list[Any] = []

    # --- life -------------------------------------------------------------------------------------------------------

    def run(self, case: Callable[["Bench"], None]) -> None:
        """Run one case."""
        self.prefix = f"c{uuid.uuid4().hex[:8]}."
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        try:
            case(self)
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        for other in (*self._channels, self.channel, *self._others):
            if other.is_open:
                other.close()
        channel = self.connection.channel()
        for name in self._queues:
            channel.queue_delete(name)
        for name in self._exchanges:
            channel.exchange_delete(name)
        channel.close()
        for names in (self._queues, self._exchanges, self._channels, self._others):
            names.clear()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def new_channel(self, *, confirms: bool = False) -> Any:
        """One more channel."""
        made = self.connection.channel()
        if confirms:
            made.confirm_delivery()
        self._channels.append(made)
        return made

    def new_connection(self) -> Any:
        """One more connection."""
        made = pika.BlockingConnection(self._parameters)
        self._others.append(made)
        return made

    # --- declaring --------------------------------------------------------------------------------------------------

    def name(self, name: str = "q") -> str:
        """A name that no other case uses."""
        return self.prefix + name

    def queue(self, name: str = "q", *, durable: bool = True, **arguments: Any) -> str:
        """Declare a queue; `arguments` as max_priority=3. Returns its name."""
        full = self.name(name)
        self.channel.queue_declare(full, durable=durable, arguments=arguments_of(arguments))
        self._queues.append(full)
        return full

    def exchange(self, type: str, name: str = "x", **options: Any) -> str:
        """Declare an exchange; returns its name."""
        full = self.name(name)
        self.channel.exchange_declare(full, type, **options)
        self._exchanges.append(full)
        return full

    def with_dead_letters(self, **arguments: Any) -> tuple[str, str]:
        """A queue, and the one to which its dead letters go."""
        dead = self.queue("dead")
        return self.queue(dead_letter_exchange="", dead_letter_routing_key=dead, **arguments), dead

    def bound(self, exchange: str, key: str = "", name: str = "q", **arguments: Any) -> str:
        """A queue that is bound to `exchange`."""
        queue = self.queue(name)
        self.channel.queue_bind(queue, exchange, key, arguments={k.replace("_", "-"): v for k, v in arguments.items()})
        return queue

    # --- messages ---------------------------------------------------------------------------------------------------

    def publish(
        self,
        key: str,
        *bodies: str,
        exchange: str = "",
        ttl: int | str | None = None,
        mandatory: bool = False,
        channel: Any = None,
        **properties: Any,
    ) -> str:
        """Publish; returns "ack", "nack" or "returned" for the last one."""
        result = "ack"
        for body in bodies or ("m",):
            given = pika.BasicProperties(expiration=None if ttl is None else str(ttl), **properties)
            try:
                (channel or self.channel).basic_publish(exchange, key, body.encode(), given, mandatory=mandatory)
                result = "ack"
            except UnroutableError:
                result = "returned"
            except NackError:
                result = "nack"
        return result

    def get(self, queue: str, *, ack: bool = True, channel: Any = None) -> Got | None:
        """Read one message; None where there is none."""
        method, properties, body = (channel or self.channel).basic_get(queue, auto_ack=ack)
        if method is None:
            return None
        return Got(
            body.decode(), method.redelivered, method.exchange, method.routing_key, properties, method.delivery_tag
        )

    def take(self, queue: str) -> Got:
        """Read one message, once there is one."""
        found: list[Got] = []

        def look() -> bool:
            if (got := self.get(queue)) is not None:
                found.append(got)
            return bool(found)

        self.eventually(look)
        return found[0]

    def bodies(self, queue: str) -> list[str]:
        """Read all messages."""
        found = []
        while (got := self.get(queue)) is not None:
            found.append(got.body)
        return found

    def depth(self, queue: str) -> int:
        """Messages that are ready."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def consumers(self, queue: str) -> int:
        """The number of consumers."""
        return int(self.channel.queue_declare(queue, passive=True).method.consumer_count)

    def wait_depth(self, queue: str, count: int) -> None:
        """Wait until `count` messages are ready."""
        self.eventually(lambda: self.depth(queue) == count)

    def exists(self, queue: str) -> bool:
        """Whether the queue exists."""
        channel = self.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return False
        channel.close()
        return True

    def let_pass(self, ms: int = SETTLED) -> None:
        """Let so much time pass on the clock of the broker: until a message of its own has expired."""
        dead = self.name(f"timer-dead-{uuid.uuid4().hex[:6]}")
        timer = self.name(f"timer-{uuid.uuid4().hex[:6]}")
        self.channel.queue_declare(dead, durable=True)
        self.channel.queue_declare(
            timer, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        )
        self._queues += [dead, timer]
        self.publish(timer, "timer", ttl=ms)
        self.take(dead)

    def consume(
        self, queue: str, *, prefetch: int = 0, ack: bool = False, channel: Any = None, **options: Any
    ) -> Consumer:
        """Consume; the case acknowledges by itself, unless `ack`."""
        channel = channel or self.new_channel()
        if prefetch:
            channel.basic_qos(prefetch_count=prefetch)
        got: list[Got] = []

        def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
            got.append(
                Got(
                    body.decode(),
                    method.redelivered,
                    method.exchange,
                    method.routing_key,
                    properties,
                    method.delivery_tag,
                )
            )

        tag = channel.basic_consume(queue, on_message, auto_ack=ack, **options)
        return Consumer(self, channel, tag, got)

    def wait_until(self, predicate: Callable[[], object]) -> None:
        """Process what arrives until `predicate` is true."""

        def look() -> object:
            for connection in (self.connection, *self._others):
                if connection.is_open:
                    connection.process_data_events(0)
            return predicate()

        self.eventually(look)

    def eventually(self, predicate: Callable[[], object]) -> None:
        """Wait until `predicate` is true."""
        eventually(predicate, self._patience)

    def settle(self) -> None:
        """Receive what the broker has sent by now."""
        for _ in range(2):  # deliveries of the queue come before the second answer
            self.connection.process_data_events(0)
            channel = self.connection.channel()
            channel.close()
        self.connection.process_data_events(0)

    # --- errors -----------------------------------------------------------------------------------------------------

    def error(self, use: Callable[[Any], object]) -> tuple[int, str]:
        """The code and text with which the broker closes a channel because of `use`."""
        channel = self.new_channel()
        try:
            use(channel)
            channel.queue_declare(self.name("absent"), passive=True)  # answered after the error
        except AMQPError as error:
            # pika may have read the error while it was sending: then it raises that the channel is closed.
            reason = channel._closing_reason or error
            return int(reason.reply_code), str(reason.reply_text)
        raise AssertionError("the broker has closed no channel")


def arguments_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the broker has them: max_priority=3 becomes x-max-priority."""
    return {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}

"""A fake pika channel: the test plays the broker."""

from collections.abc import Callable
from typing import Any, cast

from pika import spec
from pika.exceptions import ChannelClosedByBroker

from crew.amqp.channel import Channel
from crew.amqp.connection.connection import BrokerConnection
from crew.amqp.errors import LinkError
from crew.protocol.properties import Properties


class Frame:
    """A method frame as pika passes it to a callback."""

    def __init__(self, method: Any) -> None:
        self.method = method


class PikaChannel:
    """A fake pika.channel.Channel: it records requests, and calls back when the test wants it.

    Attributes:
        answers: whether the broker answers a request at once.
        requests: requests by name, with their arguments.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.answers = True
        self.requests: list[tuple[Any, ...]] = []
        self.priorities: list[int] = []  # of consumers
        self.waiting: list[Callable[[Any], None]] = []
        self.on_close: Callable[..., None]
        self.on_cancel: Callable[..., None]
        self.on_return: Callable[..., None]
        self.on_confirm: Callable[..., None]
        self.on_message: dict[str, Callable[..., None]] = {}

    # --- requests of crew -------------------------------------------------------------------------------------------

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.on_close = callback

    def add_on_cancel_callback(self, callback: Callable[..., None]) -> None:
        self.on_cancel = callback

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.on_return = callback

    def request_confirms(self, on_confirm: Callable[..., None], callback: Callable[[Any], None]) -> None:
        self.on_confirm = on_confirm
        self._answer(callback)

    def close(self) -> None:
        self.break_off(RuntimeError("closed by us"))

    def exchange_declare(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("exchange_declare", arguments, callback)

    def queue_declare(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("queue_declare", arguments, callback)

    def queue_bind(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("queue_bind", arguments, callback)

    def queue_unbind(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("queue_unbind", arguments, callback)

    def queue_delete(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("queue_delete", arguments, callback)

    def basic_qos(self, *, callback: Callable[[Any], None], **arguments: Any) -> None:
        self._ask("basic_qos", arguments, callback)

    def basic_consume(
        self,
        queue: str,
        on_message: Callable[..., None],
        *,
        arguments: dict[str, int],
        callback: Callable[[Any], None],
    ) -> str:
        self._ask("basic_consume", queue, callback)
        return self._consumer(queue, on_message, arguments)

    def consume_without_answer(self, queue: str, on_message: Callable[..., None], arguments: dict[str, int]) -> str:
        self.requests.append(("basic_consume", queue))
        return self._consumer(queue, on_message, arguments)

    def basic_cancel(self, tag: str, *, callback: Callable[[Any], None]) -> None:
        self._ask("basic_cancel", tag, callback)

    def flow(self, *, active: bool, callback: Callable[[Any], None]) -> None:
        self._ask("flow", active, callback)

    def basic_publish(self, *arguments: Any) -> None:
        self.requests.append(("basic_publish", *arguments))

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.requests.append(("basic_ack", tag, multiple))

    def basic_nack(self, tag: int, *, requeue: bool) -> None:
        self.requests.append(("basic_nack", tag, requeue))

    # --- actions of the broker --------------------------------------------------------------------------------------

    def confirm(self, tag: int, *, multiple: bool = False) -> None:
        """Confirm the message, or all messages up to it."""
        self.on_confirm(tag, multiple, True)

    def refuse(self, tag: int, *, multiple: bool = False) -> None:
        """Reject the message (basic.nack), as a full queue does."""
        self.on_confirm(tag, multiple, False)

    def give_back(self, correlation_id: str | None, *, routing_key: str = "q") -> None:
        """Return the message: no queue is bound for it."""
        properties = Properties(correlation_id=correlation_id)
        self.on_return(self, spec.Basic.Return(312, "NO_ROUTE", "", routing_key), properties, b"")

    def deliver(self, consumer: str, tag: int, properties: Properties, body: bytes) -> None:
        """Deliver a message."""
        method = spec.Basic.Deliver(consumer, tag, False, "", "the.topic")
        self.on_message[consumer](self, method, properties, body)

    def cancel_consumer(self, consumer: str) -> None:
        """Cancel a consumer, as if its queue was deleted."""
        self.on_cancel(Frame(spec.Basic.Cancel(consumer)))

    def break_off(self, reason: BaseException | None = None) -> None:
        """Close the channel."""
        self.is_open = False
        self.on_close(self, reason or ChannelClosedByBroker(406, "PRECONDITION_FAILED - unknown delivery tag 1"))

    def did(self, what: str) -> list[Any]:
        """The arguments of all requests with the name `what`."""
        return [one[1:] for one in self.requests if one[0] == what]

    def _consumer(self, queue: str, on_message: Callable[..., None], arguments: dict[str, int]) -> str:
        tag = f"consumer {len(self.on_message) + 1} of {queue}"
        self.priorities.append(arguments.get("x-priority", 0))
        self.on_message[tag] = on_message
        return tag

    def _ask(self, what: str, arguments: Any, callback: Callable[[Any], None]) -> None:
        self.requests.append((what, arguments))
        self._answer(callback)

    def _answer(self, callback: Callable[[Any], None]) -> None:
        if self.answers:
            callback(None)
        else:
            self.waiting.append(callback)


class OneChannelConnection:
    """A fake BrokerConnection with one channel."""

    def __init__(self) -> None:
        self.opened = PikaChannel()
        self.is_blocked = False
        self.is_stalled = False

    def channel(self, *, on_open_callback: Callable[[Any], None]) -> PikaChannel:
        on_open_callback(self.opened)
        return self.opened


class Ends:
    """Records the callbacks of a channel to its link."""

    def __init__(self) -> None:
        self.faults: list[LinkError] = []
        self.canceled: list[str] = []


async def an_open_channel() -> tuple[Channel, PikaChannel, Ends]:
    """An open Channel, its fake pika channel, and the callbacks to its link."""
    connection, ends = OneChannelConnection(), Ends()
    channel = a_channel(connection, ends)
    await channel.open()
    return channel, connection.opened, ends


def a_channel(connection: OneChannelConnection, ends: Ends, **arguments: Any) -> Channel:
    """A Channel that is not open yet; `arguments` are those of Channel."""
    options = {"on_closed": ends.faults.append, "on_canceled": ends.canceled.append, "confirm_timeout": 60.0}
    return Channel(cast(BrokerConnection, connection), **{**options, **arguments})

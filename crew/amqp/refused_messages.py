"""Finds the message over which the broker has closed a channel, so that this one fails and no other.

RabbitMQ closes the channel over a message that it does not accept, and does not say over which. Published again over
the next channel, the message would close that one, too, and so on. What is known: the broker handles the messages of a
channel in their order. Those before the one in question have reached their queues, though their confirms may be
missing; those after it were thrown away. So:

1. The broker's text may name it: the size of a body, the exchange or topic that this user may not write to.
2. Else copies of the messages go to a queue that does not exist, without their bodies, over a channel of their own. The
   broker looks at properties and headers before it looks for queues, so that it closes this channel over the same
   messages and delivers nothing. Halving finds the first of them.
3. What comes before it and is persistent, and all that comes after it, is published again. What comes before it and is
   not persistent has arrived: it is confirmed.
4. The message itself is published once more, alone. Where the broker closes that channel, too, it is INVALID.

Where neither text nor copies show which one it was, each persistent one is published alone, and the others are LOST.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import DEFAULT_EXCHANGE_NAME, LinkError, brief_reason, guarded
from crew.protocol.message import new_id
from crew.protocol.topology import DEFAULT_EXCHANGE

logger = logging.getLogger(__name__)

NO_QUEUE: Final = "crew.refused."  # begins the name of a queue that does not exist


class OpenTestChannel(Protocol):
    """Opens a channel of the present connection; raises LinkError."""

    def __call__(self, *, on_closed: Callable[[LinkError], None]) -> Coroutine[Any, Any, Channel]: ...


class ClosedChannel(msgspec.Struct, frozen=True):
    """A channel that the broker has closed.

    Attributes:
        fault: why.
        messages: what was published over it and not confirmed, in that order.
        on_failed: called where the connection cannot be used to find out more.
    """

    fault: LinkError
    messages: list[Confirm]
    on_failed: Callable[[LinkError], None]


class RefusedMessages:
    """Settles what was not confirmed over channels that the broker has closed.

    Args:
        open_channel: opens a channel to try messages over.
        resend: publishes messages again, each with the Confirm that it has.
    """

    def __init__(self, open_channel: OpenTestChannel, resend: Callable[[Iterable[Confirm]], None]) -> None:
        self._open_channel = open_channel
        self._resend = resend
        self._closings: list[ClosedChannel] = []
        self._unsettled: dict[Confirm, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self._fault: LinkError | None = None  # why that channel has closed

    def __len__(self) -> int:
        """Messages that are in question."""
        return len(self._unsettled)

    def __repr__(self) -> str:
        return f"<RefusedMessages: {len(self)} messages in question>"

    def add(self, closing: ClosedChannel) -> None:
        """Find out which of its messages have closed a channel."""
        logger.warning(
            "channel closed by the broker: looking for the message that it refuses unconfirmed=%d: %s",
            len(closing.messages),
            brief_reason(closing.fault),
        )
        self._unsettled.update(dict.fromkeys(closing.messages))
        self._closings.append(closing)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="refused messages")

    def lose(self) -> None:
        """The connection is given up: what is in question is LOST."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._closings.clear()
        self._channel = None
        for message in list(self._unsettled):
            self._settle(message, ConfirmStatus.LOST)

    async def _run(self) -> None:
        while self._closings:
            closing = self._closings.pop(0)
            try:
                await self._look_into(closing)
            except LinkError as fault:
                return closing.on_failed(fault)  # a new connection, and `lose`
            except Exception as error:
                logger.exception("%r: looking for a refused message failed", self)
                return closing.on_failed(LinkError(str(error)))
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._task = None
        return None

    async def _look_into(self, closing: ClosedChannel) -> None:
        messages = closing.messages
        culprits = _named(closing.fault, messages) or await self._found(messages)
        if not culprits:
            culprits = [message for message in messages if message.is_persistent]
            for message in messages:
                if not message.is_persistent:
                    self._settle(message, ConfirmStatus.LOST)
        else:
            self._go_on(messages, culprits)
        for message in culprits:
            if _is_too_large(message, closing.fault):
                self._settle(message, ConfirmStatus.TOO_LARGE)
            else:
                await self._publish_alone(message)

    def _go_on(self, messages: Sequence[Confirm], culprits: Collection[Confirm]) -> None:
        """Settle or publish again what the broker does accept."""
        has_arrived = True
        again = []
        for message in messages:
            if message in culprits:
                has_arrived = False
            elif has_arrived and not message.is_persistent:
                self._settle(message, ConfirmStatus.CONFIRMED)
            else:
                again.append(message)
        for message in again:
            del self._unsettled[message]
        self._resend(again)

    async def _found(self, messages: Sequence[Confirm]) -> list[Confirm]:
        """Those that close a channel whatever their queue and body; raises LinkError."""
        found: list[Confirm] = []
        rest = messages
        while rest and await self._closes([_harmless(message) for message in rest]):
            first = await self._first(rest)
            found.append(rest[first])
            rest = rest[first + 1 :]
        return found

    async def _first(self, messages: Sequence[Confirm]) -> int:
        """Index of the first that closes a channel, where at least one does; raises LinkError."""
        low, high = 0, len(messages)  # none before `low` does, and the first is before `high`
        while high - low > 1:
            middle = (low + high) // 2
            if await self._closes([_harmless(message) for message in messages[low:middle]]):
                high = middle
            else:
                low = middle
        return low

    async def _publish_alone(self, message: Confirm) -> None:
        """Publish it for the second time, where nobody else suffers by it; raises LinkError."""
        copy = message.copy()
        refusal = await self._closes([copy])
        if copy.status is None:
            return
        if refusal is None or copy.status is ConfirmStatus.TOO_LARGE:
            self._settle(message, copy.status)
            return
        reason = brief_reason(refusal)
        told = "message refused by the broker twice: giving it up exchange=%r routing_key=%r id=%r bytes=%d: %s"
        logger.error(told, message.exchange, message.routing_key, message.key, len(message.body), reason)
        self._unsettled.pop(message, None)
        guarded(message.refuse)(reason)

    async def _closes(self, messages: Sequence[Confirm]) -> LinkError | None:
        """Publish `messages`; why the broker has closed the channel over them, or None. Raises LinkError."""
        if self._channel is None or not self._channel.is_open:
            self._fault = None
            self._channel = await self._open_channel(on_closed=self._on_closed)
        for message in messages:
            self._channel.send(message)
        for message in messages:
            await message
        if not any(message.status in (ConfirmStatus.LOST, ConfirmStatus.TOO_LARGE) for message in messages):
            return None
        fault = self._fault or LinkError("the broker does not confirm what is published")
        if not fault.is_of_message:
            raise fault
        return fault

    def _on_closed(self, fault: LinkError) -> None:
        self._fault = fault

    def _settle(self, message: Confirm, status: ConfirmStatus) -> None:
        self._unsettled.pop(message, None)
        guarded(message.settle)(status)


def _named(fault: LinkError, messages: Sequence[Confirm]) -> list[Confirm]:
    """Those that the broker's text names."""
    if fault.exchange is None:
        return [message for message in messages if _is_too_large(message, fault)]
    exchange = DEFAULT_EXCHANGE if fault.exchange == DEFAULT_EXCHANGE_NAME else fault.exchange
    return [
        message for message in messages if message.exchange == exchange and fault.topic in (None, message.routing_key)
    ]


def _is_too_large(message: Confirm, fault: LinkError) -> bool:
    return fault.largest is not None and len(message.body) > fault.largest


def _harmless(message: Confirm) -> Confirm:
    """The same properties, for nobody."""
    return type(message)(DEFAULT_EXCHANGE, f"{NO_QUEUE}{new_id()}", message.properties)

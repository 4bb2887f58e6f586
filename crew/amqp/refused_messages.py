"""Finds the message that the broker refuses, after it has closed a channel, so that only this message fails.

RabbitMQ closes the channel when it does not accept a message, and does not say which message. Published again, the
message would close the next channel, too, and so on. But the broker processes the messages of a channel in order.
Messages before the refused one have reached their queues, though their confirms may be missing. Messages after it were
discarded. So:

1. The broker's text may name the message: by the size of its body, or by the exchange or topic without permission.
2. Else copies of the messages without bodies are published to a queue that does not exist, on a separate channel. The
   broker checks properties and headers before it looks for queues. So it closes this channel because of the same
   message and delivers nothing. A binary search finds the first such message.
3. Persistent messages before the refused one, and all messages after it, are published again. Other messages before it
   have arrived: they are confirmed.
4. The refused message is published once more, alone. Where the broker closes that channel, too, it is INVALID.

Where neither the text nor the copies show the message, each persistent message is published alone; the others are LOST.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import DEFAULT_EXCHANGE_NAME, LinkError, brief_reason, guarded
from crew.protocol.message import new_id
from crew.protocol.topology import DEFAULT_EXCHANGE

logger = logging.getLogger(__name__)

NO_QUEUE: Final = "crew.refused."  # prefix of the name of a queue that does not exist


class OpenTestChannel(Protocol):
    """Opens a channel of the present connection; may raise LinkError."""

    def __call__(self, *, on_closed: Callable[[LinkError], None]) -> Coroutine[Any, Any, Channel]: ...


class ClosedChannel(msgspec.Struct, frozen=True):
    """A channel that the broker has closed because of one of its messages.

    Attributes:
        error: the broker's reason.
        messages: its unconfirmed messages, in the order in which they were published.
        on_failed: called where the connection breaks during the search.
    """

    error: LinkError
    messages: list[Confirm]
    on_failed: Callable[[LinkError], None]


class RefusedMessages:
    """Settles the unconfirmed messages of channels that the broker has closed.

    Args:
        open_channel: opens a channel for the search.
        resend: publishes messages again, each with its present Confirm.
    """

    def __init__(self, open_channel: OpenTestChannel, resend: Callable[[Iterable[Confirm]], None]) -> None:
        self._open_channel = open_channel
        self._resend = resend
        self._closed: list[ClosedChannel] = []
        self._unsettled: dict[Confirm, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self._closing_error: LinkError | None = None  # why the channel of the search has closed

    def __len__(self) -> int:
        """Number of messages that are not settled yet."""
        return len(self._unsettled)

    def __repr__(self) -> str:
        return f"<RefusedMessages: {len(self)} messages not settled>"

    def add(self, closed: ClosedChannel) -> None:
        """Begin to search for the messages because of which the broker has closed the channel."""
        logger.warning(
            "channel closed by the broker: searching for the refused message unconfirmed=%d: %s",
            len(closed.messages),
            brief_reason(closed.error),
        )
        self._unsettled.update(dict.fromkeys(closed.messages))
        self._closed.append(closed)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="refused messages")

    def lose(self) -> None:
        """The connection was lost: settle all messages here as LOST."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._closed.clear()
        self._channel = None
        for message in list(self._unsettled):
            self._settle(message, ConfirmStatus.LOST)

    async def _run(self) -> None:
        while self._closed:
            closed = self._closed.pop(0)
            try:
                await self._find_refused(closed)
            except LinkError as error:
                return closed.on_failed(error)  # the link reconnects and calls `lose`
            except Exception as error:
                logger.exception("search for a refused message failed: %r", self)
                return closed.on_failed(LinkError(str(error)))
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._task = None
        return None

    async def _find_refused(self, closed: ClosedChannel) -> None:
        messages = closed.messages
        refused = _named(closed.error, messages) or await self._found(messages)
        if not refused:
            refused = [message for message in messages if message.is_persistent]
            for message in messages:
                if not message.is_persistent:
                    self._settle(message, ConfirmStatus.LOST)
        else:
            self._settle_others(messages, refused)
        for message in refused:
            if _is_too_large(message, closed.error):
                self._settle(message, ConfirmStatus.TOO_LARGE)
            else:
                await self._publish_alone(message)

    def _settle_others(self, messages: Sequence[Confirm], refused: Collection[Confirm]) -> None:
        """Settle or publish again the messages that the broker accepts."""
        has_arrived = True
        again = []
        for message in messages:
            if message in refused:
                has_arrived = False
            elif has_arrived and not message.is_persistent:
                self._settle(message, ConfirmStatus.CONFIRMED)
            else:
                again.append(message)
        for message in again:
            del self._unsettled[message]
        self._resend(again)

    async def _found(self, messages: Sequence[Confirm]) -> list[Confirm]:
        """Return the messages whose properties or headers close a channel; raise LinkError."""
        found: list[Confirm] = []
        rest = messages
        while rest and await self._closes([_empty_copy(message) for message in rest]):
            first = await self._first(rest)
            found.append(rest[first])
            rest = rest[first + 1 :]
        return found

    async def _first(self, messages: Sequence[Confirm]) -> int:
        """Return the index of the first message that closes a channel; at least one does. Raise LinkError."""
        low, high = 0, len(messages)  # no message before `low` closes a channel, one before `high` does
        while high - low > 1:
            middle = (low + high) // 2
            if await self._closes([_empty_copy(message) for message in messages[low:middle]]):
                high = middle
            else:
                low = middle
        return low

    async def _publish_alone(self, message: Confirm) -> None:
        """Publish `message` a second time, on a channel without other messages; raise LinkError."""
        copy = message.copy()
        refusal = await self._closes([copy])
        if copy.status is None:
            return
        if refusal is None or copy.status is ConfirmStatus.TOO_LARGE:
            self._settle(message, copy.status)
            return
        reason = brief_reason(refusal)
        text = "message refused by the broker twice: discarding it exchange=%r routing_key=%r id=%r bytes=%d: %s"
        logger.error(text, message.exchange, message.routing_key, message.key, len(message.body), reason)
        self._unsettled.pop(message, None)
        guarded(message.refuse)(reason)

    async def _closes(self, messages: Sequence[Confirm]) -> LinkError | None:
        """Publish `messages`; return why the broker has closed the channel, or None. Raise LinkError."""
        if self._channel is None or not self._channel.is_open:
            self._closing_error = None
            self._channel = await self._open_channel(on_closed=self._on_closed)
        for message in messages:
            self._channel.send(message)
        for message in messages:
            await message
        if not any(message.status in (ConfirmStatus.LOST, ConfirmStatus.TOO_LARGE) for message in messages):
            return None
        error = self._closing_error or LinkError("the broker does not confirm published messages")
        if not error.is_of_message:
            raise error
        return error

    def _on_closed(self, error: LinkError) -> None:
        self._closing_error = error

    def _settle(self, message: Confirm, status: ConfirmStatus) -> None:
        self._unsettled.pop(message, None)
        guarded(message.settle)(status)


def _named(error: LinkError, messages: Sequence[Confirm]) -> list[Confirm]:
    """Return the messages that the broker's text names."""
    if error.exchange is None:
        return [message for message in messages if _is_too_large(message, error)]
    exchange = DEFAULT_EXCHANGE if error.exchange == DEFAULT_EXCHANGE_NAME else error.exchange
    return [
        message for message in messages if message.exchange == exchange and error.topic in (None, message.routing_key)
    ]


def _is_too_large(message: Confirm, error: LinkError) -> bool:
    return error.largest is not None and len(message.body) > error.largest


def _empty_copy(message: Confirm) -> Confirm:
    """Return a message with the same properties, without body, to a queue that does not exist."""
    return type(message)(DEFAULT_EXCHANGE, f"{NO_QUEUE}{new_id()}", message.properties)

"""Where a link publishes: its channel, and those that it has left with something unsettled."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import LinkError, guarded
from crew.amqp.refused_messages import ClosedChannel, OpenTestChannel, RefusedMessages
from crew.protocol.properties import Properties

OpenChannel = Callable[[], Coroutine[Any, Any, Channel]]
OnFailed = Callable[[LinkError], None]


class PublishChannel:
    """The channels of one link, over all of its connections.

    Args:
        open_test_channel: opens a channel of the present connection, to try messages over.

    Attributes:
        channel: over which it works; None where there is no connection.
    """

    def __init__(self, open_test_channel: OpenTestChannel) -> None:
        self.channel: Channel | None = None
        self._retired: list[Channel] = []
        self._changing: asyncio.Task[None] | None = None
        self._waiting: list[Confirm] | None = None  # for the next channel, where the broker has closed the last one
        self._refusals = RefusedMessages(open_test_channel, self._resend)
        self._largest: int | None = None  # bytes of a message, where the broker has closed a channel over a larger one

    def __repr__(self) -> str:
        return f"<PublishChannel over {self.channel}, {len(self._retired)} left, {self._refusals!r}>"

    def publish(
        self,
        channel: Channel,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        *,
        mandatory: bool,
        kind: type[Confirm] = Confirm,
    ) -> Confirm:
        """As Channel.publish, but a message that cannot be encoded is INVALID, and one of which it is known that the
        broker takes none of that size is TOO_LARGE."""
        message = kind(exchange, routing_key, properties, body, mandatory)
        if self._largest is not None and len(body) > self._largest:
            message.settle(ConfirmStatus.TOO_LARGE)
            return message
        self._send(channel, message)
        return message

    def _send(self, channel: Channel | None, message: Confirm) -> None:
        """Publish `message`, or keep it for the next channel; raises LinkError where there is none to come."""
        try:
            if channel is None:
                raise LinkError("the connection is lost")
            channel.send(message)
        except LinkError:
            if self._waiting is None:
                raise
            self._waiting.append(message)
        except Exception as error:  # pika raises whatever it comes across in a table
            guarded(message.refuse)(f"it cannot be encoded: {error}")

    def change(self, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        """Go on over another channel, in a moment.

        Args:
            on_failed: called where there is none, and the last one is closed.
        """
        if self.channel is not None and (self._changing is None or self._changing.done()):
            change = self._change(self.channel, open_channel, on_failed)
            self._changing = asyncio.get_running_loop().create_task(change)

    async def changed(self) -> None:
        """Wait until a change that is under way has ended."""
        if self._changing is not None:
            await asyncio.wait([self._changing])

    def on_refused(self, closed: Channel, fault: LinkError, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        """The broker has closed a channel over one of its messages: the others go on over another channel.

        Args:
            on_failed: called where that cannot be, so that a new connection is needed.
        """
        if self.channel is closed:
            self._waiting = []
            self.change(open_channel, on_failed)
        self._retired = [channel for channel in self._retired if channel is not closed]
        self._largest = self._largest if fault.largest is None else fault.largest
        self._refusals.add(ClosedChannel(fault, closed.take_unconfirmed(), on_failed))

    async def _change(self, left: Channel, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        try:
            channel = await open_channel()
        except LinkError as fault:
            if not left.is_open:
                on_failed(fault)
            return
        if self.channel is not left:
            return  # the connection was lost meanwhile
        self.channel = channel
        waiting, self._waiting = self._waiting, None
        self._resend(waiting or ())
        self._retired = [one for one in (*self._retired, left) if not await one.retire()]

    def _resend(self, messages: Iterable[Confirm]) -> None:
        for message in messages:
            try:
                self._send(self.channel, message)
            except LinkError:
                guarded(message.settle)(ConfirmStatus.LOST)

    def lose(self, fault: LinkError, *, was_ready: bool) -> None:
        """The connection is given up."""
        if was_ready:
            self._largest = fault.largest
        channels = list(filter(None, (self.channel, *self._retired)))
        self.channel = None
        self._retired = []
        for channel in channels:
            channel.lose(fault)
        self.give_up()

    def give_up(self) -> None:
        """What waits for another channel, or is in question, is LOST."""
        waiting, self._waiting = self._waiting, None
        self._refusals.lose()
        for message in waiting or ():
            guarded(message.settle)(ConfirmStatus.LOST)

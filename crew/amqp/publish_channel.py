"""The channel on which a link publishes, and its earlier channels that still have unconfirmed messages."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from crew.amqp.channel import Channel
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import LinkError, guarded
from crew.amqp.refused_messages import ClosedChannel, OpenTestChannel, RefusedMessages
from crew.protocol.properties import Properties

OpenChannel = Callable[[], Coroutine[Any, Any, Channel]]
OnFailed = Callable[[LinkError], None]


class PublishChannel:
    """The publishing channels of one link, on all of its connections in turn.

    Args:
        open_test_channel: opens a channel of the present connection, to find out which message the broker refuses.

    Attributes:
        channel: the channel in use; None where there is no connection.
    """

    def __init__(self, open_test_channel: OpenTestChannel) -> None:
        self.channel: Channel | None = None
        self._retired: list[Channel] = []
        self._changing: asyncio.Task[None] | None = None
        self._waiting: list[Confirm] | None = (
            None  # messages for the next channel, where the broker has closed the last one
        )
        self._refused = RefusedMessages(open_test_channel, self._resend)
        self._largest: int | None = (
            None  # the broker's limit for a message in bytes, where a larger message has closed a channel
        )

    def __repr__(self) -> str:
        return f"<PublishChannel {self.channel}, {len(self._retired)} retired, {self._refused!r}>"

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
        """As Channel.publish, but raise no ValueError: a message that cannot be encoded is INVALID.

        A message above the known limit of the broker is TOO_LARGE.
        """
        message = kind(exchange, routing_key, properties, body, mandatory)
        if self._largest is not None and len(body) > self._largest:
            message.settle(ConfirmStatus.TOO_LARGE)
            return message
        self._send(channel, message)
        return message

    def _send(self, channel: Channel | None, message: Confirm) -> None:
        """Publish `message`, or keep it for the next channel; raise LinkError where no channel follows."""
        try:
            if channel is None:
                raise LinkError("the connection is lost")
            channel.send(message)
        except LinkError:
            if self._waiting is None:
                raise
            self._waiting.append(message)
        except Exception as error:  # pika raises errors of many types for header values
            guarded(message.refuse)(f"it cannot be encoded: {error}")

    def change(self, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        """Begin to open another channel and to use it.

        Args:
            on_failed: called where no channel can be opened and the present one is closed.
        """
        if self.channel is not None and (self._changing is None or self._changing.done()):
            change = self._change(self.channel, open_channel, on_failed)
            self._changing = asyncio.get_running_loop().create_task(change)

    async def changed(self) -> None:
        """Wait until the change that is under way has ended."""
        if self._changing is not None:
            await asyncio.wait([self._changing])

    def on_refused(self, closed: Channel, error: LinkError, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        """The broker has closed a channel because of one message: publish the others on another channel.

        Args:
            on_failed: called where that fails, so that a new connection is needed.
        """
        if self.channel is closed:
            self._waiting = []
            self.change(open_channel, on_failed)
        self._retired = [channel for channel in self._retired if channel is not closed]
        self._largest = self._largest if error.largest is None else error.largest
        self._refused.add(ClosedChannel(error, closed.take_unconfirmed(), on_failed))

    async def _change(self, old: Channel, open_channel: OpenChannel, on_failed: OnFailed) -> None:
        try:
            channel = await open_channel()
        except LinkError as error:
            if not old.is_open:
                on_failed(error)
            return
        if self.channel is not old:
            return  # the connection was lost meanwhile
        self.channel = channel
        waiting, self._waiting = self._waiting, None
        self._resend(waiting or ())
        self._retired = [one for one in (*self._retired, old) if not await one.retire()]

    def _resend(self, messages: Iterable[Confirm]) -> None:
        for message in messages:
            try:
                self._send(self.channel, message)
            except LinkError:
                guarded(message.settle)(ConfirmStatus.LOST)

    def lose(self, error: LinkError, *, was_ready: bool) -> None:
        """The connection was lost: all unconfirmed messages are LOST or, if larger than the limit, TOO_LARGE."""
        if was_ready:
            self._largest = error.largest
        channels = list(filter(None, (self.channel, *self._retired)))
        self.channel = None
        self._retired = []
        for channel in channels:
            channel.lose(error)
        self.lose_waiting()

    def lose_waiting(self) -> None:
        """Settle as LOST the messages that wait for another channel or are being tested."""
        waiting, self._waiting = self._waiting, None
        self._refused.lose()
        for message in waiting or ():
            guarded(message.settle)(ConfirmStatus.LOST)

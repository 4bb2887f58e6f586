"""Where a link publishes: its channel, and those that it has left with something unsettled."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.fault import LinkFault
from crew.protocol.properties import Properties

OpenChannel = Callable[[], Coroutine[Any, Any, Channel]]


class Outlet:
    """The channels of one link, over all of its connections.

    Attributes:
        channel: over which it works; None where there is no connection.
    """

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self._retired: list[Channel] = []
        self._changing: asyncio.Task[None] | None = None
        self._largest: int | None = None  # bytes of a message, where the last connection was lost over a larger one

    def __repr__(self) -> str:
        return f"<Outlet over {self.channel}, {len(self._retired)} left>"

    def publish(
        self, channel: Channel, exchange: str, routing_key: str, properties: Properties, body: bytes, *, mandatory: bool
    ) -> Confirm:
        """As Channel.publish, but for what would cost the connection of all others."""
        if self._largest is not None and len(body) > self._largest:
            return Confirm(properties.correlation_id, len(body), ConfirmStatus.TOO_LARGE)
        return channel.publish(exchange, routing_key, properties, body, mandatory=mandatory)

    def change(self, open_channel: OpenChannel) -> None:
        """Go on over another channel, in a moment."""
        if self.channel is not None and (self._changing is None or self._changing.done()):
            self._changing = asyncio.get_running_loop().create_task(self._change(self.channel, open_channel))

    async def changed(self) -> None:
        """Wait until a change that is under way has ended."""
        if self._changing is not None:
            await asyncio.wait([self._changing])

    async def _change(self, left: Channel, open_channel: OpenChannel) -> None:
        with contextlib.suppress(LinkFault):
            channel = await open_channel()
            if self.channel is left:  # else the connection was lost meanwhile
                self.channel = channel
                self._retired = [one for one in (*self._retired, left) if not await one.retire()]

    def lose(self, fault: LinkFault, *, was_ready: bool) -> None:
        """The connection is given up."""
        if was_ready:
            self._largest = fault.largest
        for channel in filter(None, (self.channel, *self._retired)):
            channel.lose(fault)
        self.channel = None
        self._retired = []

"""What a new connection begins with: all that is remembered.

Whoever adds or takes away something while a connection is being made only changes what is remembered, as the link is
not ready. So this looks again until nothing is left to do.
"""

from typing import Final

from crew.amqp.channel import Channel
from crew.amqp.remembered.consumers import Consumer, Consumers
from crew.amqp.remembered.declarations import Declarations
from crew.protocol.topology import Item

ROUNDS: Final = 5  # somebody who adds something all the time must not keep everybody from a link that is ready


class Replay:
    """Declares and consumes over one new connection, whose channel this is."""

    def __init__(self, declarations: Declarations, consumers: Consumers, channel: Channel) -> None:
        self._declarations = declarations
        self._consumers = consumers
        self._channel = channel
        self._declared: list[Item] = []
        self._started: dict[str, Consumer] = {}
        consumers.on_connection()

    def __repr__(self) -> str:
        return f"<Replay of {len(self._declared)} items and {len(self._started)} consumers>"

    async def run(self) -> None:
        """Do all of it, and what comes meanwhile; raises LinkError."""
        for _ in range(ROUNDS):
            if not await self.catch_up():
                return

    async def catch_up(self) -> bool:
        """Do what is left; whether there was anything. Raises LinkError."""
        queues = self._consumers.queues  # one that is consumed from later on may not be declared yet
        has_declared = await self._declarations.catch_up(self._declared, self._channel)
        return await self._consumers.catch_up(self._started, self._channel, of=queues) or has_declared

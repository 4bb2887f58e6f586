"""Declares everything and starts all consumers on a new connection.

While the connection is made, a change only changes what is remembered, as the link is not ready. So this is repeated
until nothing is left to do.
"""

from typing import Final

from crew.amqp.channel import Channel
from crew.amqp.remembered.consumers import Consumer, Consumers
from crew.amqp.remembered.declarations import Declarations
from crew.protocol.topology import Item

ROUNDS: Final = 5  # at most: constant additions must not prevent that the link becomes ready


class Replay:
    """Restores declarations and consumers on one new connection, with its channel."""

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
        """Declare and consume everything, also what is added meanwhile; raise LinkError."""
        for _ in range(ROUNDS):
            if not await self.catch_up():
                return

    async def catch_up(self) -> bool:
        """Declare and consume what is left; return whether anything was left. Raise LinkError."""
        queues = self._consumers.queues  # a queue of a later consumer may not be declared yet
        has_declared = await self._declarations.catch_up(self._declared, self._channel)
        return await self._consumers.catch_up(self._started, self._channel, of=queues) or has_declared

"""A connection for the length of a command: it looks, moves, deletes, and goes. What breaks ends the command."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from crew.amqp.channel import Channel, QueueDepth
from crew.amqp.confirm import Confirm
from crew.amqp.errors import NOT_FOUND, LinkError
from crew.amqp.link import Link
from crew.amqp.outage import Outage
from crew.errors import ConnectionError
from crew.protocol.properties import Properties
from crew.protocol.topology import DEFAULT_EXCHANGE, Queue
from crew.settings import Settings

REACHED_WITHIN: Final = 5.0  # seconds; a command should say that the broker is away rather than wait for it
AGAIN_AFTER: Final = 0.05  # seconds


class Session:
    """An open connection; see `open_session`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def fault(self) -> LinkError:
        """Why it has ended."""
        return self._link.fault or LinkError("the connection broke")

    async def open_channel(self) -> Channel:
        """A channel that ends with the session; raises LinkError."""
        return await self._link.open_channel()

    def publish(self, queue: str, properties: Properties, body: bytes, *, kind: type[Confirm] = Confirm) -> Confirm:
        """Send a message to `queue`; raises ConnectionError. `kind` is as `Link.publish` has it."""
        return self._link.publish(DEFAULT_EXCHANGE, queue, properties, body, mandatory=True, kind=kind)

    async def depth(self, queue: str) -> QueueDepth | None:
        """What `queue` holds, None where there is no such queue; raises LinkError."""
        channel = await self.open_channel()
        try:
            return await channel.depth(queue)
        except LinkError as fault:
            if fault.code != NOT_FOUND:
                raise
            return None
        finally:
            await channel.close()

    async def declare(self, queue: Queue) -> None:
        """Declare `queue`; raises LinkError, with `has_other_arguments` where it exists with others."""
        channel = await self.open_channel()
        try:
            await channel.declare(queue)
        finally:
            await channel.close()

    async def delete(self, queue: str, *, if_idle: bool) -> int:
        """As Channel.delete_queue."""
        channel = await self.open_channel()
        try:
            return await channel.delete_queue(queue, if_idle=if_idle)
        finally:
            await channel.close()

    async def reopen(self) -> None:
        """Wait until the connection is back, after a question that has cost it; raises ConnectionError."""
        async with _in_time(self._link):
            while True:
                await self._link.ready()
                with contextlib.suppress(LinkError):
                    return await (await self.open_channel()).close()
                await asyncio.sleep(AGAIN_AFTER)  # the link has not heard of it yet


@asynccontextmanager
async def open_session(settings: Settings, *, name: str) -> AsyncIterator[Session]:
    """A connection to the broker, closed at the end of the block.

    Args:
        name: what the broker's lists call it.

    Raises:
        ConnectionError: the broker was not reached within 5 seconds, or refuses the login.
    """
    link = Link(settings, name=name, outage=Outage(level=logging.DEBUG))  # the command itself says why it fails
    link.open()
    try:
        async with _in_time(link):
            await link.ready()
        yield Session(link)
    finally:
        await link.close()


@asynccontextmanager
async def _in_time(link: Link) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(REACHED_WITHIN):
            yield
    except TimeoutError:
        why = f": {link.fault}{link.fault.advice}" if link.fault else ""
        raise ConnectionError(f"the broker was not reached within {REACHED_WITHIN} s{why}") from None

"""A connection for one command, which counts, moves or deletes messages. An error ends the command."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from crew.amqp.channel import Channel, QueueDepth
from crew.amqp.confirms.confirm import Confirm
from crew.amqp.errors import NOT_FOUND, LinkError
from crew.amqp.link import Link
from crew.amqp.outage import Outage
from crew.errors import ConnectionError
from crew.protocol.properties import Properties
from crew.protocol.topology import DEFAULT_EXCHANGE, Queue
from crew.settings import Settings

REACHED_WITHIN: Final = 5.0  # seconds; a command should fail when the broker is unavailable, not wait
RETRY_DELAY: Final = 0.05  # seconds


class Session:
    """The open connection of a command; see `open_session`.

    Args:
        timeout: seconds for `reopen`. Default 5.
    """

    def __init__(self, link: Link, timeout: float = REACHED_WITHIN) -> None:
        self._link = link
        self._timeout = timeout

    @property
    def last_error(self) -> LinkError:
        """Why the connection was lost."""
        return self._link.last_error or LinkError("the connection broke")

    async def open_channel(self) -> Channel:
        """Open a channel; raise LinkError."""
        return await self._link.open_channel()

    def publish(self, queue: str, properties: Properties, body: bytes, *, kind: type[Confirm] = Confirm) -> Confirm:
        """Publish a message to `queue`; raise ConnectionError. For `kind` see `Link.publish`."""
        return self._link.publish(DEFAULT_EXCHANGE, queue, properties, body, mandatory=True, kind=kind)

    async def depth(self, queue: str) -> QueueDepth | None:
        """Return the depth of `queue`, or None where the queue does not exist; raise LinkError."""
        channel = await self.open_channel()
        try:
            return await channel.depth(queue)
        except LinkError as error:
            if error.code != NOT_FOUND:
                raise
            return None
        finally:
            await channel.close()

    async def declare(self, queue: Queue) -> None:
        """Declare `queue`; raise LinkError, with `has_other_arguments` where it exists with other arguments."""
        channel = await self.open_channel()
        try:
            await channel.declare(queue)
        finally:
            await channel.close()

    async def delete(self, queue: str, *, if_idle: bool) -> int:
        """See Channel.delete_queue."""
        channel = await self.open_channel()
        try:
            return await channel.delete_queue(queue, if_idle=if_idle)
        finally:
            await channel.close()

    async def reopen(self) -> None:
        """Wait until the connection is back, after a request because of which it closed; raise ConnectionError."""
        async with _in_time(self._link, self._timeout):
            while True:
                await self._link.ready()
                with contextlib.suppress(LinkError):
                    return await (await self.open_channel()).close()
                await asyncio.sleep(RETRY_DELAY)  # the link has not noticed the loss yet


@asynccontextmanager
async def open_session(settings: Settings, *, name: str, timeout: float = REACHED_WITHIN) -> AsyncIterator[Session]:
    """Connect to the broker; the connection is closed at the end of the block.

    Args:
        name: name of the connection in the broker's lists.
        timeout: seconds in which the broker must be reached. Default 5.

    Raises:
        ConnectionError: the broker was not reached in time, or refuses the login.
    """
    link = Link(settings, name=name, outage=Outage(level=logging.DEBUG))  # the command itself prints the error
    link.open()
    try:
        async with _in_time(link, timeout):
            await link.ready()
        yield Session(link, timeout)
    finally:
        await link.close()


@asynccontextmanager
async def _in_time(link: Link, timeout: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        why = f": {link.last_error}{link.last_error.advice}" if link.last_error else ""
        raise ConnectionError(f"connection timeout: the broker was not reached within {timeout:g} s{why}") from None

"""Every message that a queue holds, once and in its order.

RabbitMQ cannot list a queue: one has to take the messages, and to give them back. They are consumed without being
acknowledged, so that the broker hands out each of them once; what is not acknowledged by the end stands again where it
stood, also when this process is killed meanwhile. Nothing is kept here of a message once it was shown, so that a queue
of any length can be looked through.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from crew.amqp.admin.session import Session
from crew.amqp.channel import Channel
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError

HELD: Final = 200  # deliveries of one channel: RabbitMQ looks for the one that is acknowledged among all of them
CHANNELS: Final = 1_000  # at most; a connection has 2,047 unless its broker says otherwise
QUIET: Final = 0.5  # seconds without a delivery after which the broker is asked whether there is anything left

Take = Callable[[Delivery], bool]
Settled = Callable[[], Awaitable[None]]


async def _at_once() -> None:
    pass


async def browse(session: Session, queue: str, take: Take, *, window: int = HELD, settled: Settled = _at_once) -> int:
    """Show every message that `queue` holds now to `take`; what arrives meanwhile is not waited for.

    Messages that are not signed, where they should be, are shown too: `Delivery.refusal` says so.

    Args:
        take: is shown each delivery, and may acknowledge it; whether it has seen enough. What it raises ends the scan.
        window: deliveries that are asked for at once.
        settled: awaited after each window, before more is asked for.

    Returns:
        How many were shown; 0 where there is no such queue.

    Raises:
        LinkError: the connection broke.
    """
    depth = await session.depth(queue)
    if depth is None:
        return 0
    shown = _Shown(take, depth.ready)
    held = max(HELD, depth.ready // CHANNELS)
    channels: list[Channel] = []
    try:
        while not shown.is_complete:
            if shown.count >= held * len(channels):
                channels.append(await session.open_channel())
            shown.ask_for(min(window, held))
            await channels[-1].consume(queue, shown.on_delivery, prefetch=shown.asked, on_refused=shown.on_delivery)
            await _window(session, channels[-1], queue, shown)
            await channels[-1].cancel(queue)
            await settled()
    finally:
        for channel in reversed(channels):  # so that what was delivered last is the first to go back
            await _give_back(channel, queue)
    return shown.count


async def _give_back(channel: Channel, queue: str) -> None:
    """Close the channel, when what it held is in its queue again: the next command is to find it there."""
    with contextlib.suppress(LinkError):  # then it goes back by itself
        channel.requeue_all()
        await channel.depth(queue)
        await channel.close()


class _Shown:
    """How far a scan has come."""

    def __init__(self, take: Take, total: int) -> None:
        self.count = 0
        self.asked = 0
        self.is_complete = total == 0
        self.error: BaseException | None = None
        self.changed = asyncio.Event()
        self.at = time.monotonic()
        self._take = take
        self._total = total
        self._until = 0

    @property
    def has_window(self) -> bool:
        """Whether nothing more is to be expected of this window."""
        return self.is_complete or self.count >= self._until

    def ask_for(self, window: int) -> None:
        """The next window begins."""
        self.asked = min(window, self._total - self.count)
        self._until = self.count + self.asked

    def on_delivery(self, delivery: Delivery) -> None:
        """Show it; pika is told of no error, so the scan is."""
        if self.is_complete:
            return
        self.count += 1
        self.at = time.monotonic()
        try:
            self.is_complete = self._take(delivery) or self.count >= self._total
        except Exception as error:
            self.error, self.is_complete = error, True
        if self.has_window:
            self.changed.set()


async def _window(session: Session, channel: Channel, queue: str, shown: _Shown) -> None:
    """Wait for the deliveries of a window, as long as there is anything to wait for."""
    shown.changed.clear()
    while not shown.has_window and channel.is_open:
        try:
            async with asyncio.timeout(QUIET):
                await shown.changed.wait()
        except TimeoutError:
            if time.monotonic() - shown.at >= QUIET and not await _is_left(session, queue):
                shown.is_complete = True  # somebody else has taken the rest
    if shown.error is not None:
        raise shown.error
    if not shown.has_window:
        raise session.fault


async def _is_left(session: Session, queue: str) -> bool:
    depth = await session.depth(queue)
    return depth is not None and depth.ready > 0

"""Shows each message of a queue once and in order.

RabbitMQ cannot list a queue: a program has to consume the messages and requeue them. They are consumed without
acknowledgements, so that the broker delivers each of them once. Messages that are not acknowledged at the end return to
their place in the queue, also when this process is killed. No message is kept here after it was progress, so that a
queue may have any length.
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

HELD: Final = 200  # unacknowledged deliveries of one channel: RabbitMQ searches all of them for each acknowledgement
CHANNELS: Final = 1_000  # at most; the default limit of a broker is 2,047 for a connection
QUIET: Final = 0.5  # seconds without a delivery after which the broker is asked for the depth of the queue

OnMessage = Callable[[Delivery], bool]
Settled = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


async def browse(
    session: Session, queue: str, take: OnMessage, *, window: int = HELD, settled: Settled = _nothing
) -> int:
    """Pass each message that is now in `queue` to `take`; do not wait for messages that arrive meanwhile.

    Messages with a refused signature are passed, too: see `Delivery.refusal`.

    Args:
        take: called with each delivery; may acknowledge it. It returns True to stop; an exception stops, too.
        window: number of deliveries that are requested at a time.
        settled: awaited after each window, before the next one.

    Returns:
        Number of messages that were passed; 0 where the queue does not exist.

    Raises:
        LinkError: the connection broke.
    """
    depth = await session.depth(queue)
    if depth is None:
        return 0
    progress = _Progress(take, depth.ready)
    held = max(HELD, depth.ready // CHANNELS)
    channels: list[Channel] = []
    try:
        while not progress.is_complete:
            if progress.count >= held * len(channels):
                channels.append(await session.open_channel())
            progress.ask_for(min(window, held))
            await channels[-1].consume(
                queue, progress.on_delivery, prefetch=progress.asked, on_refused=progress.on_delivery
            )
            await _window(session, channels[-1], queue, progress)
            await channels[-1].cancel(queue)
            await settled()
    finally:
        for channel in reversed(channels):  # so that the last deliveries are requeued first, which keeps the order
            await _requeue(channel, queue)
    return progress.count


async def _requeue(channel: Channel, queue: str) -> None:
    """Requeue the deliveries of `channel`, wait for it, and close it: the next command must find them in the queue."""
    with contextlib.suppress(LinkError):  # then the broker requeues them by itself
        channel.requeue_all()
        await channel.depth(queue)
        await channel.close()


class _Progress:
    """The progress of `browse`."""

    def __init__(self, take: OnMessage, total: int) -> None:
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
        """Whether this window is complete."""
        return self.is_complete or self.count >= self._until

    def ask_for(self, window: int) -> None:
        """Begin the next window."""
        self.asked = min(window, self._total - self.count)
        self._until = self.count + self.asked

    def on_delivery(self, delivery: Delivery) -> None:
        """Pass `delivery` on; keep an exception for `browse`, because pika must not get it."""
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


async def _window(session: Session, channel: Channel, queue: str, progress: _Progress) -> None:
    """Wait for the deliveries of a window, until they have arrived or the queue is empty."""
    progress.changed.clear()
    while not progress.has_window and channel.is_open:
        try:
            async with asyncio.timeout(QUIET):
                await progress.changed.wait()
        except TimeoutError:
            if time.monotonic() - progress.at >= QUIET and not await _is_left(session, queue):
                progress.is_complete = True  # another consumer has taken the rest
    if progress.error is not None:
        raise progress.error
    if not progress.has_window:
        raise session.last_error


async def _is_left(session: Session, queue: str) -> bool:
    depth = await session.depth(queue)
    return depth is not None and depth.ready > 0

"""Consumption: sets the prefetch of each queue at the broker, until the broker has it as requested."""

import asyncio
import logging

from crew.amqp import Consumer, Link
from crew.amqp.delivery import OnDelivery, discard
from crew.errors import ConnectionError

logger = logging.getLogger(__name__)

PAUSED = 0
UNKNOWN = -1


class Consumption:
    """The broker consumers of this worker, one for each queue.

    Args:
        windows: queue -> its first prefetch.
        on_delivery, on_refused: callbacks of each consumer.
    """

    def __init__(
        self, link: Link, windows: dict[str, int], on_delivery: OnDelivery, on_refused: OnDelivery = discard
    ) -> None:
        self._link = link
        self._on_delivery = on_delivery
        self._on_refused = on_refused
        self._wanted = dict(windows)
        self._applied = dict(windows)
        self._task: asyncio.Task[None] | None = None
        for queue, window in windows.items():
            link.remember(self._consumer(queue, window))

    def __repr__(self) -> str:
        return f"<Consumption {self._wanted}>"

    def pause_again(self, queue: str) -> None:
        """Pause `queue` although it seems paused: it still delivers, as a reconnect may have undone the pause."""
        if self._applied[queue] == PAUSED:
            self._applied[queue] = UNKNOWN
        self.set_prefetch(queue, PAUSED)

    def set_prefetch(self, queue: str, window: int) -> None:
        """Request at most `window` unacknowledged deliveries of `queue`; PAUSED for none."""
        self._wanted[queue] = window
        if self._wanted != self._applied and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._apply())

    async def wait_applied(self) -> None:
        """Wait until the broker has applied what was requested."""
        if self._task is not None:
            await self._task

    def _consumer(self, queue: str, window: int) -> Consumer:
        return Consumer(queue, self._on_delivery, window, on_refused=self._on_refused)

    async def _apply(self) -> None:
        while changed := [queue for queue in self._wanted if self._wanted[queue] != self._applied[queue]]:
            for queue in changed:
                window = self._applied[queue] = self._wanted[queue]
                try:
                    if window == PAUSED:
                        await self._link.pause(queue)
                    else:
                        await self._link.consume(self._consumer(queue, window))
                except ConnectionError as error:
                    logger.warning("prefetch not changed: %s queue=%s prefetch=%d", error, queue, window)

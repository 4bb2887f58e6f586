"""Which queues a worker takes from, and how much at once: what is wanted, until the broker has it so."""

import asyncio
import logging

from crew.amqp import Consumer, Link
from crew.amqp.delivery import OnDelivery, discard
from crew.errors import ConnectionError

logger = logging.getLogger(__name__)

PAUSED = 0
UNKNOWN = -1


class Consumption:
    """The consumers of this worker.

    Args:
        windows: queue -> deliveries to hold at most.
        on_delivery, on_refused: of each Consumer.
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
        """Take nothing from `queue`, whose deliveries still come: a reconnect may have overtaken the pause."""
        if self._applied[queue] == PAUSED:
            self._applied[queue] = UNKNOWN
        self.want(queue, PAUSED)

    def want(self, queue: str, window: int) -> None:
        """Hold at most `window` deliveries of `queue`; PAUSED takes none."""
        self._wanted[queue] = window
        if self._wanted != self._applied and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._apply())

    async def settled(self) -> None:
        """Wait until the broker has it as it is wanted."""
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
                    logger.warning("the prefetch of %s could not be changed: %s", queue, error)

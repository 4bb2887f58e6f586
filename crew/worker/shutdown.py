"""How a worker process comes to its end: what runs is finished, or interrupted, so that it runs elsewhere."""

import asyncio
import logging
import time
from collections.abc import Sequence, Sized
from typing import Final

from crew.worker.consumer.consumer import TaskConsumer

logger = logging.getLogger(__name__)

STEP: Final = 0.01  # seconds between two looks
FLUSH_TIMEOUT: Final = 5.0  # seconds for replies that are on their way when the process ends


class Shutdown:
    """Empties a worker process. All of it on the I/O thread.

    Args:
        outgoing: what has messages on their way, which should arrive.
        drain: seconds that what runs has, until it is interrupted.
        grace: seconds that it has then.
    """

    def __init__(
        self, consumers: Sequence[TaskConsumer], outgoing: Sequence[Sized], *, drain: float, grace: float
    ) -> None:
        self._consumers = consumers
        self._outgoing = outgoing
        self._drain = drain
        self._grace = grace
        self._hurry = asyncio.Event()

    def interrupt_now(self) -> None:
        """Interrupt what runs, now."""
        self._hurry.set()

    async def wait(self) -> None:
        """Take nothing new, and wait until what runs has ended, however long that is."""
        await asyncio.gather(*(consumer.drain() for consumer in self._consumers))
        while self._has_work():
            await asyncio.sleep(STEP)
            self._give_back()

    async def run(self) -> bool:
        """Finish what runs, or interrupt it, and let the answers out; whether nothing goes on."""
        await asyncio.gather(*(consumer.drain() for consumer in self._consumers))
        has_ended = await self._idle(self._drain, interrupt_now=True) or await self._interrupt()
        await self._flush()
        return has_ended

    async def _interrupt(self) -> bool:
        for consumer in self._consumers:
            consumer.interrupt_all()
        if await self._idle(self._grace, interrupt_now=False):
            return True
        logger.warning("a task goes on after its interrupt and %g s of grace", self._grace)
        for consumer in self._consumers:
            consumer.give_up()
        return False

    async def _idle(self, seconds: float, *, interrupt_now: bool) -> bool:
        """Wait until nothing runs, for `seconds`; with `hurry` not longer than the supervisor likes."""
        until = time.monotonic() + seconds
        while self._has_work() and time.monotonic() < until and not (interrupt_now and self._hurry.is_set()):
            await asyncio.sleep(STEP)
            self._give_back()
        return not self._has_work()

    def _give_back(self) -> None:
        """An executor may just have found that it must not start what it has taken."""
        for consumer in self._consumers:
            consumer.give_back()

    def _has_work(self) -> bool:
        return any(consumer.has_work() for consumer in self._consumers)

    async def _flush(self) -> None:
        """Let what is on its way arrive."""
        until = time.monotonic() + FLUSH_TIMEOUT
        while any(map(len, self._outgoing)) and time.monotonic() < until:
            await asyncio.sleep(0.005)

"""Shutdown of a worker process: drain it, or interrupt its tasks so that other workers run their calls."""

import asyncio
import logging
import time
from collections.abc import Sequence, Sized
from typing import Final

from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.posix.process_end import FLUSH_TIMEOUT

logger = logging.getLogger(__name__)

POLL_INTERVAL: Final = 0.01  # seconds
FLUSH_POLL_INTERVAL: Final = 0.005  # seconds


class Shutdown:
    """Drains one worker process. All methods run on the I/O thread.

    Args:
        outgoing: publishers; the shutdown waits until each has length 0, that is, no unconfirmed message.
        drain: seconds that running tasks have until they are interrupted.
        grace: seconds that they have after the interrupt.
    """

    def __init__(
        self, consumers: Sequence[TaskConsumer], outgoing: Sequence[Sized], *, drain: float, grace: float
    ) -> None:
        self._consumers = consumers
        self._outgoing = outgoing
        self._drain = drain
        self._grace = grace
        self._interrupt_requested = asyncio.Event()

    def interrupt_now(self) -> None:
        """Interrupt the running tasks without waiting for the end of the drain."""
        self._interrupt_requested.set()

    async def wait(self) -> None:
        """Take no new calls, and wait without a limit until the running tasks have ended."""
        await asyncio.gather(*(consumer.drain() for consumer in self._consumers))
        while self._has_work():
            await asyncio.sleep(POLL_INTERVAL)
            self._requeue_waiting()

    async def run(self) -> bool:
        """Finish the running tasks, or interrupt them, then flush replies; returns whether every task has ended."""
        await asyncio.gather(*(consumer.drain() for consumer in self._consumers))
        has_ended = await self._wait_idle(self._drain, is_interruptible=True) or await self._interrupt()
        await self._flush()
        return has_ended

    async def _interrupt(self) -> bool:
        for consumer in self._consumers:
            consumer.interrupt_all()
        if await self._wait_idle(self._grace, is_interruptible=False):
            return True
        logger.warning("drain timeout: a task runs on %g s after its interrupt; ending its process", self._grace)
        for consumer in self._consumers:
            consumer.settle_all()
        return False

    async def _wait_idle(self, seconds: float, *, is_interruptible: bool) -> bool:
        """Wait at most `seconds` until no task runs; if `is_interruptible`, `interrupt_now` ends the wait."""
        until = time.monotonic() + seconds
        while self._has_work() and time.monotonic() < until:
            if is_interruptible and self._interrupt_requested.is_set():
                break
            await asyncio.sleep(POLL_INTERVAL)
            self._requeue_waiting()
        return not self._has_work()

    def _requeue_waiting(self) -> None:
        """Requeue again: an executor may have put a call back that it must not start."""
        for consumer in self._consumers:
            consumer.requeue_waiting()

    def _has_work(self) -> bool:
        return any(consumer.has_work() for consumer in self._consumers)

    async def _flush(self) -> None:
        """Wait until the broker has confirmed replies and retries."""
        until = time.monotonic() + FLUSH_TIMEOUT
        while any(map(len, self._outgoing)) and time.monotonic() < until:
            await asyncio.sleep(FLUSH_POLL_INTERVAL)

"""Delay queues: where calls wait for their retry. There is one for each delay, for the calls of all tasks."""

import asyncio
from collections.abc import Callable
from typing import Final

from crew.amqp import Link
from crew.clock import monotonic_time
from crew.protocol import topology

DECLARE_INTERVAL: Final = 60.0  # seconds: the broker deletes a delay queue that was not declared for 10 minutes


class DelayQueues:
    """Declares the queues in which calls are delayed, each at most once in `DECLARE_INTERVAL`.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, link: Link, *, clock: Callable[[], float] = monotonic_time) -> None:
        self._link = link
        self._clock = clock
        self._declared: dict[int, float] = {}  # delay in milliseconds -> time of the declaration
        self._declaring = asyncio.Lock()  # each declaration opens a channel, and a connection has few

    async def declare(self, delay_ms: int) -> None:
        """Declare the queue for `delay_ms`; raise ConnectionError."""
        async with self._declaring:
            now = self._clock()
            if now - self._declared.get(delay_ms, -DECLARE_INTERVAL) >= DECLARE_INTERVAL:
                await self._link.declare_once(*topology.delay_queue(delay_ms))
                self._declared[delay_ms] = now

    def on_deleted(self, delay_ms: int) -> None:
        """The queue was deleted: declare it before its next use."""
        self._declared.pop(delay_ms, None)

"""Measures the offset between this host's clock and the broker's clock, which all clients and workers share.

AMQP has no request for the time. But a rejected message is delivered again with the broker's time in whole seconds, in
the `x-death` header (https://www.rabbitmq.com/docs/dlx#effects). So a message is published to a queue that dead-letters
to itself, rejected there, and delivered again:

    publish -> queue -> delivered: note the time, reject -> queue -> delivered with x-death: note the time

The broker's time lies between these two times. So the offset is known to one second plus the duration of this exchange.
Offsets within `TOLERANCE` count as zero. The publishing link does this. During an alarm the broker stops to read from
connections that publish, which must not happen to a connection that consumes.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from crew.amqp.channel import Channel
from crew.amqp.delivery import Delivery
from crew.amqp.errors import LinkError
from crew.clock import wall_time
from crew.protocol.clock import IN_STEP, ClockOffset
from crew.protocol.properties import Properties
from crew.protocol.topology import CLASSIC, DEFAULT_EXCHANGE, Queue, clock_queue, of_type

logger = logging.getLogger(__name__)

TOLERANCE: Final = 2.0  # seconds; clocks with NTP differ by much less
FIRST_WITHIN: Final = 1.0  # seconds that a new connection waits for the first comparison
LATER_WITHIN: Final = 10.0  # seconds for a later comparison
COMPARED_EVERY: Final = 300.0  # seconds
AGAIN_AFTER: Final = 10.0  # seconds after a comparison that took too long
WATCHED_EVERY: Final = 5.0  # seconds between two checks whether this host's clock was set
SET_BY: Final = 0.5  # seconds; a larger jump of the clock means that it was set
MOST_BREAKS: Final = 2  # comparisons in a row during which the connection broke; after that no more are made

OpenChannel = Callable[[], Awaitable[Channel]]


class BrokerClock:
    """Compares this host's clock with the broker's, for the links of one process to one broker.

    Until the first comparison, and where the broker refuses it, the clocks count as equal.

    Args:
        wall: epoch seconds; for tests.
        watch_interval: seconds between two checks whether this host's clock was set. Default 5.

    Attributes:
        offset: the last measured offset; IN_STEP where it is within the tolerance.
    """

    def __init__(self, wall: Callable[[], float] = wall_time, *, watch_interval: float = WATCHED_EVERY) -> None:
        self.offset = IN_STEP
        self._wall = wall
        self._watch_interval = watch_interval
        self._breaks = 0
        self._next_in = COMPARED_EVERY
        self._compared = asyncio.Event()
        self._cleanups: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<BrokerClock: {self.offset.middle:+.1f} s>"

    async def compared(self) -> None:
        """Wait for the first comparison, at most `FIRST_WITHIN` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WITHIN):
                await self._compared.wait()

    async def compare(self, open_channel: OpenChannel, ended: "asyncio.Future[Any]", *, within: float) -> None:
        """Compare the clocks in at most `within` seconds; raise nothing where that fails.

        Args:
            ended: done when the connection has closed.
        """
        if self._breaks >= MOST_BREAKS:
            self._compared.set()
            return
        self._breaks += 1
        self._next_in = COMPARED_EVERY
        try:
            async with asyncio.timeout(within):
                offset = await self._measured(await open_channel())
            self._learn(offset)
        except LinkError as error:
            logger.debug("clock comparison with the broker failed: %s", error)
        except TimeoutError:
            logger.debug("clock comparison with the broker timed out after %g s", within)
            self._next_in = AGAIN_AFTER
        finally:
            self._compared.set()
            if not ended.done():
                self._breaks = 0

    async def keep(self, open_channel: OpenChannel, ended: "asyncio.Future[Any]") -> None:
        """Compare now, then at intervals and when this host's clock was set, until `ended`."""
        while not ended.done():
            compared_at, drift = time.monotonic(), self._drift()
            await self.compare(open_channel, ended, within=LATER_WITHIN)
            while abs(self._drift() - drift) < SET_BY and time.monotonic() - compared_at < self._next_in:
                if (await asyncio.wait([ended], timeout=self._watch_interval))[0]:
                    return

    def _drift(self) -> float:
        return self._wall() - time.monotonic()

    async def _measured(self, channel: Channel) -> ClockOffset:
        """Return the measured offset; raise LinkError where the broker refuses."""
        queue = of_type(clock_queue(uuid.uuid4().hex), CLASSIC)
        assert isinstance(queue, Queue)
        rejected_at: float | None = None
        came_back: asyncio.Future[ClockOffset] = asyncio.get_running_loop().create_future()

        def on_delivery(delivery: Delivery) -> None:
            nonlocal rejected_at
            second = _time_of_death(delivery.properties)
            if second is None and rejected_at is None:
                rejected_at = time.monotonic()
                channel.reject(delivery.tag)
            elif not came_back.done():
                if second is None or rejected_at is None:
                    came_back.set_exception(LinkError("the broker's dead letters contain no time"))
                    return
                now, took = self._wall(), time.monotonic() - rejected_at
                came_back.set_result(ClockOffset(second - now, second + 1 - (now - took)))

        try:
            await channel.declare(queue)
            await channel.consume(queue.name, on_delivery, prefetch=1)
            channel.publish(DEFAULT_EXCHANGE, queue.name, Properties(type="clock"), b"", mandatory=False)
            return await came_back
        finally:
            cleanup = asyncio.get_running_loop().create_task(_clean_up(channel, queue.name))  # in the background
            self._cleanups.add(cleanup)
            cleanup.add_done_callback(self._cleanups.discard)

    def _learn(self, measured: ClockOffset) -> None:
        """Keep the present offset while it may be correct, so that times do not jump with each comparison."""
        if _can_be(measured, self.offset.middle):
            return
        before, self.offset = self.offset, IN_STEP if _can_be(measured, 0.0) else measured
        if self.offset is IN_STEP:
            logger.info("clock difference to the broker is gone: the clocks were %s apart", _seconds(before))
        else:
            logger.warning(
                "clock difference: this host's clock is %s %s the broker's; converting deadlines; use NTP on both",
                _seconds(self.offset),
                "behind" if self.offset.middle > 0 else "ahead of",
            )


async def _clean_up(channel: Channel, queue: str) -> None:
    with contextlib.suppress(LinkError):
        if channel.is_open:
            await channel.delete_queue(queue)
            await channel.close()


def _can_be(measured: ClockOffset, offset: float) -> bool:
    return measured.low - TOLERANCE <= offset <= measured.high + TOLERANCE


def _seconds(offset: ClockOffset) -> str:
    return f"{abs(offset.middle):.0f} s"


def _time_of_death(given: Properties) -> float | None:
    """Return the epoch seconds at which the broker has dead-lettered a message, or None."""
    match given.headers:
        case {"x-death": [{"time": at}, *_]}:
            return float(at.timestamp()) if hasattr(at, "timestamp") else float(at)
    return None

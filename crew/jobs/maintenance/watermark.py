"""The watermark of a job store: an instant T such that all reports published before T are committed.

A job whose report may still come must not be ended. Reports wait in the queue of the store, and in each gateway that
consumes them. A *checkpoint* moves the watermark of this gateway to the instant T at which it begins:

1. After T, the broker states at one moment that the queue is empty, and how many consumers it has. So each report that
   was published before T is committed, or one of these consumers has it.
2. Each consumer *settles*. A request over its own connection returns after the deliveries that the broker has sent
   before. Then all reports that it has received are committed. Other gateways do this when an event asks them to, and
   answer with an event.
3. The checkpoint is complete when as many consumers have settled as the broker counted, and each of them had settled
   before step 1, too. A consumer is one connection of a gateway, with an id of its own. So these are the consumers of
   step 1, and none is one that has replaced a lost consumer, whose reports would come back to the queue.

Only the clock of this gateway is used; the broker and the database have no part in it. If a gateway is frozen or its
connection is half-open, the broker counts a consumer that does not answer, and the watermark stays where it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from crew.amqp.channel import QueueDepth
from crew.clock import monotonic_time, wall_time
from crew.errors import ConnectionError
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.protocol.message import new_id

# A broker that answers later may be late with the reports of workers, too.
ANSWER_WITHIN: Final = 1.0  # seconds
SETTLED_WITHIN: Final = 2.0  # seconds for all gateways to commit what they have received
ATTEMPTS: Final = 2  # checkpoints, as the first one gets to know the other gateways
MAX_GAP: Final = 10.0  # seconds between two steps: if it was longer, this process was stopped or its host has slept
MAX_CLOCK_STEP: Final = 1.0  # seconds by which the clock may be set between two steps
MAX_ASKED: Final = 100  # checkpoints of other gateways that wait for an answer; their events may be forged
MAX_SETTLED: Final = 1_000  # consumers that a checkpoint notes, for the same reason
MAX_ID: Final = 64  # characters of an id in an event


class Checkpoint:
    """One attempt to move the watermark.

    Args:
        at: the instant at which it began.
        consumers: the number of consumers of the queue, after `at`.
        known: the consumers that had settled before they were counted.
    """

    def __init__(self, at: float, consumers: int, known: frozenset[str]) -> None:
        self.id = new_id()
        self.at = at
        self.consumers = consumers
        self.settled: set[str] = set()
        self.is_answered = asyncio.Event()  # as many consumers have settled as were counted
        self._known = known

    def __repr__(self) -> str:
        return f"<Checkpoint {self.id}: {len(self.settled)} of {self.consumers} consumers have settled>"

    @property
    def is_complete(self) -> bool:
        """Whether all reports published before `at` are committed."""
        return len(self.settled & self._known) >= self.consumers

    def add(self, consumer: str) -> None:
        """A consumer has settled since they were counted."""
        if len(self.settled) < MAX_SETTLED:
            self.settled.add(consumer)
        if len(self.settled) >= self.consumers:
            self.is_answered.set()


class Watermark(Service):
    """The watermark as one gateway knows it. It is moved when a service asks for it; a step only checks the clocks.

    Args:
        depth: the depth of the queue of the store, over the connection that consumes it; see `Link.depth`.
        settle: waits until the reports that were received so far are committed.
        publish: starts to publish an event to the other gateways of the store.
        clock: epoch seconds; monotonic: seconds.
        interval: seconds between two checks of the clocks.
        max_gap: seconds between two steps, above which this process was stopped or its host has slept. Default 10.
    """

    def __init__(
        self,
        *,
        depth: Callable[[], Awaitable[QueueDepth]],
        settle: Callable[[], Awaitable[None]],
        publish: Callable[[dict[str, Any]], object],
        clock: Callable[[], float] = wall_time,
        monotonic: Callable[[], float] = monotonic_time,
        interval: float = INTERVAL,
        max_gap: float = MAX_GAP,
    ) -> None:
        super().__init__(interval=interval)
        self._max_gap = max_gap
        self._depth = depth
        self._settle = settle
        self._publish = publish
        self._clock = clock
        self._monotonic = monotonic
        self._at: float | None = None
        self._consumer: str | None = None  # id of the present connection; None while it is lost
        self._observed_since = monotonic()
        self._gaps = 0  # in what this gateway has observed
        self._checked = clock(), monotonic()
        self._checkpoint = Checkpoint(0.0, 0, frozenset())
        self._moving = asyncio.Lock()
        self._asked: set[str] = set()  # checkpoints of other gateways
        self._is_answering = False

    def __repr__(self) -> str:
        return f"<Watermark: {self._at}>"

    # --- what this gateway observes ---------------------------------------------------------------------------------

    def on_consuming(self) -> None:
        """Reports are consumed over a new connection."""
        self._consumer = new_id()
        self._observe_again()

    def on_lost(self) -> None:
        """The connection is lost. Workers may have lost theirs, and cannot report until they are connected again."""
        self._consumer = None

    async def step(self) -> None:
        """Check the clocks: after a gap, workers may need a moment to report, too."""
        clock, monotonic = self._clock(), self._monotonic()
        went, passed = clock - self._checked[0], monotonic - self._checked[1]
        self._checked = clock, monotonic
        if abs(went - passed) > MAX_CLOCK_STEP:
            self._at = None  # by the clock of before
        if abs(went - passed) > MAX_CLOCK_STEP or passed > self._max_gap:
            self._observe_again()

    def _observe_again(self) -> None:
        self._observed_since = self._monotonic()
        self._gaps += 1

    # --- for the services that end jobs -----------------------------------------------------------------------------

    async def has_passed(self, at: float, *, observed: float) -> bool:
        """Whether all reports published before `at` (epoch seconds) are committed.

        Args:
            observed: seconds for which this gateway must have been connected until now without a gap. Workers that
                were connected, too, have sent their reports; after an outage they need some time.
        """
        await self.step()
        if self._consumer is None or self._monotonic() - self._observed_since < observed:
            return False
        async with self._moving:
            for _ in range(ATTEMPTS):
                if self._is_before(at):
                    await self._move()
        return not self._is_before(at)

    def _is_before(self, at: float) -> bool:
        return self._at is None or self._at < at

    async def _move(self) -> None:
        """Move the watermark to now, if a checkpoint is complete in time."""
        gaps = self._gaps
        try:
            checkpoint = await self._begin()
            if checkpoint is not None:
                async with asyncio.timeout(SETTLED_WITHIN):
                    await self._settled_everywhere(checkpoint)
        except (TimeoutError, ConnectionError):
            return
        await self.step()
        if checkpoint is not None and checkpoint.is_complete and gaps == self._gaps:
            self._at = checkpoint.at

    async def _begin(self) -> Checkpoint | None:
        """Begin a checkpoint, and count the consumers; None if the queue is not empty."""
        # First: a consumer that settles after the count may have started after it.
        known = frozenset(self._checkpoint.settled | ({self._consumer} if self._consumer else set()))
        began = self._clock()
        async with asyncio.timeout(ANSWER_WITHIN):
            depth = await self._depth()
        if depth.ready:
            return None
        self._checkpoint = Checkpoint(began, depth.consumers, known)
        return self._checkpoint

    async def _settled_everywhere(self, checkpoint: Checkpoint) -> None:
        """Wait until as many consumers have settled as were counted."""
        if checkpoint.consumers > 1:
            self._publish({"checkpoint": checkpoint.id})
        await self._settle()
        if self._consumer is not None:
            checkpoint.add(self._consumer)
        await checkpoint.is_answered.wait()

    # --- events of other gateways -----------------------------------------------------------------------------------

    def on_settled(self, checkpoints: list[Any], consumer: str) -> None:
        """A consumer has settled since these checkpoints began."""
        if self._checkpoint.id in checkpoints and len(consumer) <= MAX_ID:
            self._checkpoint.add(consumer)

    async def answer(self, checkpoint: str) -> None:
        """Settle, and answer the checkpoint of another gateway; those that come meanwhile are answered together."""
        if len(checkpoint) > MAX_ID or len(self._asked) >= MAX_ASKED:
            return
        self._asked.add(checkpoint)
        if self._is_answering:
            return
        self._is_answering = True
        try:
            while self._asked:
                await self._answer()
        finally:
            self._is_answering = False

    async def _answer(self) -> None:
        asked, self._asked = self._asked, set()
        consumer = self._consumer
        try:
            async with asyncio.timeout(SETTLED_WITHIN):
                await self._depth()  # by its end, what was sent to this consumer before has arrived
                await self._settle()
        except (TimeoutError, ConnectionError):
            return
        if consumer is not None and consumer == self._consumer:
            self._publish({"settled": sorted(asked), "consumer": consumer})

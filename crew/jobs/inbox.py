"""What is heard of jobs: taken from the broker in batches, committed to the store, and only then acknowledged."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.amqp import Consumer, Delivery, Link
from crew.amqp.visit import Visit
from crew.errors import ConnectionError
from crew.jobs import report
from crew.jobs.job import JobStatus
from crew.jobs.report import Report
from crew.jobs.settlement import Settled
from crew.jobs.store import JobStore
from crew.protocol import briefing, properties
from crew.protocol.message import Briefing
from crew.protocol.properties import MalformedMessage

logger = logging.getLogger(__name__)

PREFETCH: Final = 100  # messages, of up to 16 MiB each: they are in memory until they are committed
COMMITTED_WITHIN: Final = 0.2  # seconds, by a store that is not slow
AGAIN_AFTER: Final = 1.0  # seconds until a store that is away is tried again

_Heard = tuple[Delivery, Report]


class Inbox:
    """Takes what is heard of the jobs in `store`.

    Args:
        on_settled: told what became of each report, once it is committed.
        on_briefing: told of a worker that asks.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        on_settled: Callable[[Sequence[Settled]], object],
        on_briefing: Callable[[Briefing], object],
    ) -> None:
        self._store = store
        self._on_settled = on_settled
        self._on_briefing = on_briefing
        self._heard: list[_Heard] = []
        self._batch: list[_Heard] = []  # on its way into the store
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Messages that are not committed."""
        return len(self._batch) + len(self._heard)

    def __repr__(self) -> str:
        return f"<Inbox: {len(self)} not committed>"

    @property
    def consumer(self) -> Consumer:
        """What takes the messages; the store must be open."""
        return Consumer(self._store.queue, self.on_delivery, PREFETCH)

    async def is_behind(self, link: Link) -> bool:
        """Whether there is more to hear than was committed: in the queue, or here but for what has just come."""
        depth = await Visit(link).depth(self._store.queue)
        if depth is None or depth.ready > 0:
            return True
        return any(time.time() - said.at > COMMITTED_WITHIN for _, said in (self._batch or self._heard)[:1])

    async def close(self) -> None:
        """Commit what was heard, and hear no more; idempotent."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=AGAIN_AFTER)
        if self._task is not None:
            self._task.cancel()

    def on_delivery(self, delivery: Delivery) -> None:
        """A message has arrived."""
        try:
            if delivery.properties.type == briefing.TYPE:
                self._on_briefing(briefing.to_briefing(delivery.properties, delivery.body))
                delivery.ack()
                return
            reply = properties.to_reply(delivery.properties, delivery.body)
        except MalformedMessage as error:
            logger.warning("a message in %s is dropped: %s", delivery.queue, error)
            delivery.ack()
            return
        self._heard.append((delivery, report.of_reply(reply, at=time.time(), max_result=self._store.max_result)))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._commit(), name="job inbox")

    def on_lost(self) -> None:
        """The connection is lost: the broker delivers again what was not acknowledged over it."""
        self._heard = [one for one in self._heard if one[0].is_ours]

    async def _commit(self) -> None:
        try:
            while self._heard:
                self._batch, self._heard = self._heard, []
                await self._settle()
        finally:
            self._batch = []
            self._task = None

    async def _settle(self) -> None:
        """Until it is committed, or is to come again: what comes a second time changes nothing."""
        while self._batch:
            try:
                settled = await self._written([one for _, one in self._batch])
                break
            except ConnectionError as error:
                logger.debug("%d job reports wait for the store: %s", len(self._batch), error)  # it logs its outages
                await asyncio.sleep(AGAIN_AFTER)
                self._batch = [one for one in self._batch if one[0].is_ours]
        else:
            return
        for delivery, _ in self._batch:
            delivery.ack()
        self._on_settled(settled)

    async def _written(self, reports: list[Report]) -> list[Settled]:
        try:
            return await self._store.settle(reports)
        except ConnectionError:
            raise
        except Exception as error:  # whatever it is: what is never acknowledged takes a place of PREFETCH for good
            if len(reports) > 1:  # one of them cannot be written
                return [settled for one in reports for settled in await self._written([one])]
            return await self._store.settle([_refused(reports[0], error)])


def _refused(said: Report, error: Exception) -> Report:
    """The end of a job where `said` cannot be recorded, since it would have no other."""
    logger.error("what job %s came to cannot be recorded: %s", said.id, error)
    told = f"what it came to cannot be recorded: {error}"
    return report.ended(said.id, JobStatus.ERROR, at=said.at, type_name=type(error).__name__, message=told)

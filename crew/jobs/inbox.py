"""Reports of jobs: taken from the broker in batches, committed to the store, and only then acknowledged."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.amqp import Consumer, Delivery, Link
from crew.amqp.admin.session import Visit
from crew.errors import ConnectionError
from crew.jobs import report
from crew.jobs.job import JobStatus
from crew.jobs.progress_watch import LOOK_EVERY, ProgressWatch
from crew.jobs.refused_reports import REJECTED, UNREADABLE, Refusals
from crew.jobs.report import Report
from crew.jobs.store.errors import Rejected
from crew.jobs.store.store import Store
from crew.jobs.store.update import Settled
from crew.protocol import briefing, properties
from crew.protocol.message import Briefing
from crew.protocol.properties import MalformedMessage

logger = logging.getLogger(__name__)

PREFETCH: Final = 100  # messages, of up to 16 MiB each: they are in memory until they are committed
COMMITTED_WITHIN: Final = 0.2  # seconds, by a store that is not slow
AGAIN_AFTER: Final = 1.0  # seconds until a store that is away is tried again
PUT_OFF: Final = 1.0  # seconds until what failed for an unknown reason is tried again; doubled each time
MAX_PUT_OFF: Final = 30.0  # seconds


@dataclasses.dataclass(eq=False)
class Heard:
    """A message that is not acknowledged yet.

    Attributes:
        report: what it says, or the refusal of it.
        since: when it arrived, time.monotonic().
        tries: attempts to record it that failed for an unknown reason.
        is_refusal: whether `report` is the end of a job whose own end the database will never take.
    """

    delivery: Delivery
    report: Report
    since: float
    tries: int = 0
    is_refusal: bool = False


class Inbox:
    """Takes what is heard of the jobs in `store`.

    Args:
        on_settled: told what became of each report, once it is committed.
        on_briefing: told of a worker that asks.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_settled: Callable[[Sequence[Settled]], object],
        on_briefing: Callable[[Briefing], object],
    ) -> None:
        self._store = store
        self._on_settled = on_settled
        self._on_briefing = on_briefing
        self._heard: list[Heard] = []
        self._batch: list[Heard] = []  # on its way into the store
        self._put_off_until: dict[Heard, asyncio.TimerHandle] = {}
        self._refusals = Refusals()
        self._watch = ProgressWatch(self._oldest)
        self._watching: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Messages that are not committed."""
        return len(self._batch) + len(self._heard) + len(self._put_off_until)

    def __repr__(self) -> str:
        return f"<Inbox: {len(self)} not committed>"

    @property
    def consumer(self) -> Consumer:
        """What takes the messages; the store must be open."""
        return Consumer(self._store.queue, self.on_delivery, PREFETCH)

    @property
    def obstacle(self) -> str | None:
        """Why no job ends, in one sentence: what arrives has not been recorded for a while; None: it is."""
        return self._watch.obstacle()

    async def is_behind(self, link: Link) -> bool:
        """Whether there is more to hear than was committed: in the queue, or here but for what has just come."""
        depth = await Visit(link).depth(self._store.queue)
        if depth is None or depth.ready > 0:
            return True
        oldest = [one for some in (self._batch, self._heard, list(self._put_off_until)) for one in some[:1]]
        return any(time.time() - one.report.at > COMMITTED_WITHIN for one in oldest)

    async def close(self) -> None:
        """Commit what was heard, and hear no more; idempotent. The broker keeps what is not committed."""
        self._is_closed = True
        for timer in (*self._put_off_until.values(), self._watching):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=AGAIN_AFTER)
        if self._task is not None:
            self._task.cancel()

    def on_delivery(self, delivery: Delivery) -> None:
        """A message has arrived. One that cannot be read is acknowledged, or it would take a place of PREFETCH."""
        try:
            if delivery.properties.type == briefing.TYPE:
                self._on_briefing(briefing.to_briefing(delivery.properties, delivery.body))
                self._acknowledge(delivery)
                return
            reply = properties.to_reply(delivery.properties, delivery.body)
            told = report.of_reply(reply, at=time.time(), max_result=self._store.max_result)
        except Exception as error:
            if not isinstance(error, MalformedMessage):
                logger.exception("a job report cannot be read: queue=%s", delivery.queue)
            self._refusals.discard(UNREADABLE, delivery.queue, error)
            self._acknowledge(delivery)
            return
        self._heard.append(Heard(delivery, told, time.monotonic()))
        self._start()

    def on_lost(self) -> None:
        """The connection is lost: the broker delivers again what was not acknowledged over it."""
        self._heard = [one for one in self._heard if one.delivery.is_ours]

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="job inbox")
        if self._watching is None and not self._is_closed:
            self._watching = loop.call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Look whether there is progress, now and then while there are messages."""
        self._watch.look()
        self._watching = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look) if len(self) else None

    def _oldest(self) -> float | None:
        """When the oldest message arrived that keeps others waiting.

        One that failed and is tried again does so only where such messages take all places.
        """
        waiting = [*self._batch, *self._heard]
        if len(self) >= PREFETCH:
            waiting += self._put_off_until
        else:
            waiting = [one for one in waiting if not one.tries]
        return min((one.since for one in waiting), default=None)

    def _acknowledge(self, delivery: Delivery) -> None:
        delivery.ack()
        self._watch.progressed()

    async def _run(self) -> None:
        """Commit what is there. No error ends this: what is never acknowledged takes a place of PREFETCH for good."""
        try:
            while self._heard:
                self._batch, self._heard = self._heard, []
                is_away = await self._commit()
                self._batch = []
                if is_away:
                    await asyncio.sleep(AGAIN_AFTER)
                    self.on_lost()  # what has come again over a new connection is there twice
        finally:
            self._batch = []
            self._task = None

    async def _commit(self) -> bool:
        """Commit the batch, and acknowledge what is committed; whether the store is away.

        What comes a second time changes nothing.
        """
        answers = await self._store.settle_each([one.report for one in self._batch])
        settled, away = [], []
        for one, answer in zip(self._batch, answers, strict=True):
            match answer:
                case Settled():
                    self._acknowledge(one.delivery)
                    settled.append(answer)
                case ConnectionError():
                    self._watch.last_error = str(answer)
                    logger.debug("job report waits for the store: job=%s: %s", one.report.id, answer)  # logs outages
                    away.append(one)
                case Rejected():
                    self._refuse(one, answer)
                case _:
                    self._put_off(one, answer)
        self._heard = [*away, *self._heard]
        if settled:
            self._tell(settled)
        return bool(away)

    def _tell(self, settled: Sequence[Settled]) -> None:
        try:
            self._on_settled(settled)
        except Exception:  # it is committed, and a slow poll finds it
            logger.exception("waiters cannot be woken for %d jobs", len(settled))

    def _refuse(self, one: Heard, error: Rejected) -> None:
        """The database will never take this: an end becomes the end `error`, since its job would have no other."""
        status = one.report.status
        if status is None or not status.is_final or one.is_refusal:
            self._refusals.discard(REJECTED, one.delivery.queue, f"job={one.report.id}: {error}")
            self._acknowledge(one.delivery)
            return
        logger.error("job ended as error, the store never takes its result: job=%s: %s", one.report.id, error)
        message = f"what it came to cannot be recorded: {error}"
        kind = type(error.__cause__ or error).__name__
        refusal = report.ended(one.report.id, JobStatus.ERROR, at=one.report.at, type_name=kind, message=message)
        self._heard.append(Heard(one.delivery, refusal, one.since, is_refusal=True))

    def _put_off(self, one: Heard, error: BaseException) -> None:
        """Try it again later, as often as it takes: an error that is not known to last may not end a job."""
        if self._is_closed:
            return
        one.tries += 1
        self._watch.last_error = f"{type(error).__name__}: {error}"
        if one.tries == 1:
            told = "job report not recorded, retrying until it is: job=%s: %s: %s"
            logger.error(told, one.report.id, type(error).__name__, error)
        wait = min(PUT_OFF * 2.0 ** min(one.tries - 1, 10), MAX_PUT_OFF)
        self._put_off_until[one] = asyncio.get_running_loop().call_later(wait, self._try_again, one)

    def _try_again(self, one: Heard) -> None:
        del self._put_off_until[one]
        if one.delivery.is_ours:  # else the broker delivers it again
            self._heard.append(one)
            self._start()

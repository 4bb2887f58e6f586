"""What has to be done for jobs now and then, by whichever gateway is up.

Jobs that no broker has are published again; those that no worker took in time, and those of which nothing is heard
any more, are ended; records whose time is over are deleted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from crew.errors import ConnectionError, CrewError, Overloaded, TaskError, TooLarge
from crew.jobs import report
from crew.jobs.job import Job, JobStatus
from crew.jobs.publisher import LEASE, Publisher
from crew.jobs.report import Report
from crew.jobs.store.store import Store

logger = logging.getLogger(__name__)

EVERY: Final = 1.0  # seconds between two rounds
CLAIMED: Final = 200  # jobs that are published at a time
RETRY_FULL: Final = 5.0  # seconds until a job that was accepted is tried again, where its queue had no room
ENDED: Final = 500  # jobs that are ended at a time
# A worker says every 30 seconds that it runs a job; and what is not heard for so long may wait in the queue, where no
# gateway was up, so that one has to listen for as long before it gives a job up.
SILENCE: Final = 300.0  # seconds
# What was started or done in time may wait in the queue, too: a gateway that has just come reads that first, however
# long it takes, and commits it.
HEARD_FIRST: Final = 2.0  # seconds
BETWEEN_LOOKS: Final = 0.5  # seconds at least: what a gateway has taken is committed meanwhile, also by another one
HEARD_WITHIN: Final = 1.0  # seconds: what a worker has begun in the last moment is heard of
# Between two looks at the clock: this process was stopped, its host slept, or its clock was set. What was heard since
# then is in the queue yet, and what was heard before is older than it seems.
HOLE: Final = 10.0  # seconds

Settle = Callable[[Sequence[Report]], Awaitable[None]]


class Caretaker:
    """Looks after the jobs of `store`.

    Args:
        settle: ends jobs, and tells everybody.
        has_listened: seconds for which this gateway has taken what is heard of jobs without a break.
        is_behind: whether there is more to hear than was committed.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        *,
        settle: Settle,
        has_listened: Callable[[], float],
        is_behind: Callable[[], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._settle = settle
        self._has_listened = has_listened
        self._is_behind = is_behind
        self._heard_all: float | None = None  # since when it is not behind and has overdue jobs (time.monotonic())
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watching_since = time.monotonic()  # without a hole, and with a store that takes what is heard
        self._looked_at = time.time()

    def __repr__(self) -> str:
        return f"<Caretaker: {'at work' if self._task else 'not started'}>"

    def start(self) -> None:
        """Begin; idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="job caretaker")

    async def stop(self) -> None:
        """End; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def hurry(self) -> None:
        """Begin a round now, and another one where a round is under way: there may be something to publish."""
        self._hurry.set()

    async def _run(self) -> None:
        steps = (self._publish, self._expire, self._give_up, self._purge)
        while True:
            self._hurry.clear()  # before the round: a wake-up during it begins another one
            for step in steps:
                self._look_at_clock()
                try:
                    await step()
                except ConnectionError as error:  # an outage is logged once: by the store, or by the link
                    self._watching_since = time.monotonic()
                    logger.debug("job maintenance failed, retrying in %g s: %s", EVERY, error)
                except CrewError as error:
                    logger.warning("job maintenance failed, retrying in %g s: %s", EVERY, error)
                except Exception:
                    logger.exception("job maintenance failed, retrying in %g s", EVERY)
            try:
                async with asyncio.timeout(EVERY):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    def _look_at_clock(self) -> None:
        now = time.time()
        if abs(now - self._looked_at) > HOLE:
            self._watching_since = time.monotonic()
        self._looked_at = now

    def _has_heard(self) -> float:
        """Seconds for which all that was said of jobs has reached their records."""
        return min(self._has_listened(), time.monotonic() - self._watching_since)

    async def _publish(self) -> None:
        """Publish what no broker has, as long as there is any and it is taken."""
        while self._publisher.can_publish:
            until = time.time() + LEASE
            claimed = await self._store.claim(time.time(), until=until, most=CLAIMED)
            published = []
            for job in claimed:
                if not self._publisher.can_publish or time.time() >= until:
                    return  # in time somebody claims what is left
                published.append(await self._publish_one(job))
            if len(claimed) < CLAIMED or not all(published):
                return

    async def _publish_one(self, job: Job) -> bool:
        try:
            return await self._publisher.publish(job)
        except Overloaded:
            await self._store.postpone(job.id, time.time() + RETRY_FULL)
            return False
        except (TaskError, TooLarge) as error:
            told = f"it was accepted, and could not be published: {error}"
            await self._end([job.id], JobStatus.ERROR, type_name=type(error).__name__, message=told)
            return True

    async def _expire(self) -> None:
        """Those that are overdue at two looks: what had left the queue before the first is committed by the second."""
        ids = await self._store.overdue(time.time() - HEARD_WITHIN, ENDED)
        if self._has_heard() < HEARD_FIRST or not ids or await self._is_behind():
            self._heard_all = None
            return
        self._heard_all = self._heard_all or time.monotonic()
        if time.monotonic() - self._heard_all >= BETWEEN_LOOKS:
            told = "no worker took it in time"
            await self._end(ids, JobStatus.EXPIRED, type_name="ExpirationError", message=told, may_be_queued=True)

    async def _give_up(self) -> None:
        """The worker of a long job has told the broker that it has it: with its host, the job is gone."""
        if self._has_heard() < SILENCE:
            return
        ids = await self._store.silent(time.time() - SILENCE, ENDED)
        if ids and await self._is_behind():
            return
        told = f"nothing was heard of its worker for {SILENCE:.0f} s"
        await self._end(ids, JobStatus.ERROR, type_name="WorkerLost", message=told, may_be_queued=True)

    async def _purge(self) -> None:
        while await self._store.purge(time.time()):
            pass

    async def _end(
        self, ids: Sequence[str], status: JobStatus, *, type_name: str, message: str, may_be_queued: bool = False
    ) -> None:
        if ids:
            said = {"at": time.time(), "type_name": type_name, "message": message, "may_be_queued": may_be_queued}
            await self._settle([report.ended(id, status, **said) for id in ids])  # type: ignore[arg-type]

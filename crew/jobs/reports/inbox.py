"""Consumes the reports of jobs: commits them to the store in batches, and acknowledges them after the commit."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

from crew.amqp import Consumer, Delivery
from crew.clock import monotonic_time
from crew.errors import ConnectionError
from crew.jobs.job import JobStatus
from crew.jobs.reports import report
from crew.jobs.reports.progress_watch import ProgressWatch
from crew.jobs.reports.refused_reports import REJECTED, UNREADABLE, RefusedReports
from crew.jobs.reports.report import Report
from crew.jobs.store.errors import Rejected
from crew.jobs.store.store import Store
from crew.jobs.store.update import AppliedReport
from crew.jobs.tuning import DEFAULT, JobTuning
from crew.protocol import properties, revocation_request
from crew.protocol.message import RevocationRequest
from crew.protocol.properties import MalformedMessage

logger = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class ReceivedReport:
    """A report that is not acknowledged yet.

    Attributes:
        report: the decoded report, or the error that replaces it.
        since: when it arrived, by the clock of the inbox.
        tries: attempts to record it that failed for an unknown reason.
        is_replaced: whether `report` is an error that replaces a result that the database rejected.
    """

    delivery: Delivery
    report: Report
    since: float
    tries: int = 0
    is_replaced: bool = False


class Inbox:
    """Consumes the reports of the jobs in `store`.

    Args:
        on_applied: called with the results of committed reports.
        on_revocation_request: called with the request of a worker for revoked jobs.
        tuning: durations and sizes.
        clock: seconds. Default: time.monotonic.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_applied: Callable[[Sequence[AppliedReport]], object],
        on_revocation_request: Callable[[RevocationRequest], object],
        tuning: JobTuning = DEFAULT,
        clock: Callable[[], float] = monotonic_time,
    ) -> None:
        self._store = store
        self._tuning = tuning
        self._clock = clock
        self._on_applied = on_applied
        self._on_revocation_request = on_revocation_request
        self._received: list[ReceivedReport] = []
        self._batch: list[ReceivedReport] = []  # that is being committed
        self._retries: dict[ReceivedReport, asyncio.TimerHandle] = {}
        self._released = asyncio.Event()  # set, and replaced, when reports are no longer held
        self._refused = RefusedReports()
        self._watch = ProgressWatch(self._oldest, clock, stalled_after=tuning.stalled_after)
        self._watching: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Number of reports that are not committed."""
        return len(self._batch) + len(self._received) + len(self._retries)

    def __repr__(self) -> str:
        return f"<Inbox: {len(self)} not committed>"

    @property
    def consumer(self) -> Consumer:
        """The consumer of the queue of the store; the store must be open."""
        return Consumer(self._store.queue, self.on_delivery, self._tuning.prefetch)

    @property
    def obstacle(self) -> str | None:
        """Why no job ends, in one sentence: reports have not been recorded for a while; None if they are."""
        return self._watch.obstacle()

    async def settle(self) -> None:
        """Wait until no report that has arrived so far is held: it is committed, or the broker delivers it again."""
        earlier = self._held()
        while earlier := earlier & self._held():
            await self._released.wait()

    def _held(self) -> set[ReceivedReport]:
        """Reports that are not committed."""
        return {*self._batch, *self._received, *self._retries}

    async def close(self) -> None:
        """Commit the received reports, and stop; idempotent. The broker keeps the reports that are not committed."""
        self._is_closed = True
        for timer in (*self._retries.values(), self._watching):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._tuning.retry_store)
        if self._task is not None:
            self._task.cancel()

    def on_delivery(self, delivery: Delivery) -> None:
        """Take a message. An unreadable one is acknowledged and discarded: else it would use the prefetch forever."""
        try:
            if delivery.properties.type == revocation_request.TYPE:
                self._on_revocation_request(revocation_request.to_request(delivery.properties, delivery.body))
                self._acknowledge(delivery)
                return
            reply = properties.to_reply(delivery.properties, delivery.body)
            decoded = report.of_reply(reply, at=time.time(), max_result=self._store.max_result)
        except Exception as error:
            if not isinstance(error, MalformedMessage):
                logger.exception("job report unreadable: queue=%s", delivery.queue)
            self._refused.discard(UNREADABLE, delivery.queue, error)
            self._acknowledge(delivery)
            return
        self._received.append(ReceivedReport(delivery, decoded, self._clock()))
        self._start()

    def on_lost(self) -> None:
        """Drop the reports of a lost connection: the broker delivers again what was not acknowledged."""
        self._received = [one for one in self._received if one.delivery.is_ours]
        self._release()

    def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="job inbox")
        if self._watching is None and not self._is_closed:
            self._watching = loop.call_later(self._tuning.progress_check, self._check_progress)

    def _check_progress(self) -> None:
        """Check for progress at intervals, while there are reports."""
        self._watch.check()
        loop, interval = asyncio.get_running_loop(), self._tuning.progress_check
        self._watching = loop.call_later(interval, self._check_progress) if len(self) else None

    def _oldest(self) -> float | None:
        """When the oldest report arrived that blocks others.

        A report that is being retried blocks others only if such reports use up the prefetch.
        """
        waiting = [*self._batch, *self._received]
        if len(self) >= self._tuning.prefetch:
            waiting += self._retries
        else:
            waiting = [one for one in waiting if not one.tries]
        return min((one.since for one in waiting), default=None)

    def _acknowledge(self, delivery: Delivery) -> None:
        delivery.ack()
        self._watch.progressed()

    async def _run(self) -> None:
        """Commit batch after batch. No error ends this: a report that is never acknowledged occupies the prefetch."""
        try:
            while self._received:
                self._batch, self._received = self._received, []
                is_unavailable = await self._commit()
                self._batch = []
                self._release()
                if is_unavailable:
                    await asyncio.sleep(self._tuning.retry_store)
                    self.on_lost()  # over a new connection, the broker has delivered these reports again
        finally:
            self._batch = []
            self._task = None
            self._release()

    async def _commit(self) -> bool:
        """Commit the batch, and acknowledge the committed reports; returns whether the store is unavailable.

        A report that arrives a second time changes nothing.
        """
        results = await self._store.apply_each([one.report for one in self._batch])
        applied, waiting = [], []
        for one, result in zip(self._batch, results, strict=True):
            match result:
                case AppliedReport():
                    self._acknowledge(one.delivery)
                    applied.append(result)
                case ConnectionError():  # the store logs its outage
                    self._watch.last_error = str(result)
                    logger.debug("job report waits for the store: job=%s: %s", one.report.id, result)
                    waiting.append(one)
                case Rejected():
                    self._replace(one, result)
                case _:
                    self._retry_later(one, result)
        self._received = [*waiting, *self._received]
        if applied:
            self._notify(applied)
        return bool(waiting)

    def _notify(self, applied: Sequence[AppliedReport]) -> None:
        try:
            self._on_applied(applied)
        except Exception:  # the reports are committed, and the poll of the waiters finds them
            logger.exception("job waiters not woken: jobs=%d", len(applied))

    def _replace(self, one: ReceivedReport, error: Rejected) -> None:
        """Replace a final report that the database rejected by an error: without it the job would never end."""
        status = one.report.status
        if status is None or not status.is_final or one.is_replaced:
            self._refused.discard(REJECTED, one.delivery.queue, f"job={one.report.id}: {error}")
            self._acknowledge(one.delivery)
            return
        logger.error("job result rejected by the store, job ends as error: job=%s: %s", one.report.id, error)
        message = f"the result of the job cannot be recorded: {error}"
        kind = type(error.__cause__ or error).__name__
        one.report = report.ended(one.report.id, JobStatus.ERROR, at=one.report.at, type_name=kind, message=message)
        one.is_replaced = True
        self._received.append(one)

    def _retry_later(self, one: ReceivedReport, error: BaseException) -> None:
        """Retry the report later, without a limit: an error that may be temporary must not end a job."""
        if self._is_closed:
            return
        one.tries += 1
        self._watch.last_error = f"{type(error).__name__}: {error}"
        if one.tries == 1:
            logger.error(
                "job report not recorded, retrying until it is: job=%s: %s: %s",
                one.report.id,
                type(error).__name__,
                error,
            )
        wait = min(self._tuning.retry_report * 2.0 ** min(one.tries - 1, 10), self._tuning.max_retry_report)
        self._retries[one] = asyncio.get_running_loop().call_later(wait, self._retry, one)

    def _retry(self, one: ReceivedReport) -> None:
        del self._retries[one]
        if one.delivery.is_ours:  # else the broker delivers it again
            self._received.append(one)
            self._start()
        self._release()

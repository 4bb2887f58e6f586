"""What the services share that end jobs in the name of this gateway."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from crew.clock import wall_time
from crew.jobs.job import JobStatus
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.jobs.reports import report
from crew.jobs.reports.report import Report
from crew.jobs.store.store import Store

MAX_ENDED: Final = 500  # jobs that a step ends at a time

ApplyReports = Callable[[Sequence[Report]], Awaitable[None]]


class PassedWatermark(Protocol):
    """The part of `Watermark` that these services use."""

    async def has_passed(self, at: float, *, observed: float) -> bool:
        """Whether all reports published before `at` are committed; see `Watermark.has_passed`."""
        ...


class EndingService(Service):
    """A service that ends jobs of `store`.

    Args:
        apply: commits the reports, wakes the waiters and sends control messages to the workers.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        apply: ApplyReports,
        clock: Callable[[], float] = wall_time,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(interval=interval)
        self._store = store
        self._apply = apply
        self._clock = clock

    async def _end(
        self, ids: Sequence[str], status: JobStatus, *, type_name: str, message: str, may_be_queued: bool = False
    ) -> None:
        """End the jobs with these ids.

        Args:
            type_name, message: of the failure that is recorded.
            may_be_queued: whether their messages may still be in a queue, so that workers have to refuse them.
        """
        now = time.time()
        ended = [
            report.ended(id, status, at=now, type_name=type_name, message=message, may_be_queued=may_be_queued)
            for id in ids
        ]
        if ended:
            await self._apply(ended)


class UnreportedService(EndingService):
    """A service that ends jobs for which a report is missing.

    Args:
        watermark: whether all reports published before an instant are committed.
        apply, clock, interval: as for EndingService.
    """

    def __init__(
        self,
        store: Store,
        watermark: PassedWatermark,
        *,
        apply: ApplyReports,
        clock: Callable[[], float] = wall_time,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(store, apply=apply, clock=clock, interval=interval)
        self._watermark = watermark

    async def _unreported(
        self, find: Callable[[int], Awaitable[Sequence[str]]], *, before: float, observed: float
    ) -> Sequence[str]:
        """The ids that `find` returns after all reports published `before` are committed; none if that is not known.

        Args:
            find: returns up to that many ids.
            observed: as for `Watermark.has_passed`.
        """
        if await find(1) and await self._watermark.has_passed(before, observed=observed):
            return await find(MAX_ENDED)
        return ()

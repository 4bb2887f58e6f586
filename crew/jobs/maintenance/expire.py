"""Expires queued jobs that no worker took in time."""

import time
from collections.abc import Callable
from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.ending import MAX_ENDED, ApplyReports, PassedWatermark, end_jobs
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.jobs.store.store import Store

REPORT_DELAY: Final = 1.0  # seconds that a worker may take to report a start; clocks are in step to a second


class Expire(Service):
    """Ends queued jobs whose due time is before the watermark: the report of their start would be committed by now.

    Args:
        apply: commits the reports, wakes the waiters and sends control messages to the workers.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        watermark: PassedWatermark,
        *,
        apply: ApplyReports,
        clock: Callable[[], float] = time.time,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(interval=interval)
        self._store = store
        self._watermark = watermark
        self._apply = apply
        self._clock = clock

    async def step(self) -> None:
        """Expire the jobs that are due."""
        now = self._clock()
        due = now - REPORT_DELAY
        if await self._store.overdue(due, 1) and await self._watermark.has_passed(
            now, observed=self._store.tuning.reconnect
        ):
            ids = await self._store.overdue(due, MAX_ENDED)
            message = "no worker took the job in time"
            kind = "ExpirationError"
            await end_jobs(self._apply, ids, JobStatus.EXPIRED, type_name=kind, message=message, may_be_queued=True)

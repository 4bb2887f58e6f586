"""Ends long jobs whose worker no longer reports that it runs them.

The worker of a long job has acknowledged its message. So the broker does not deliver it again when the host is lost.
"""

import time
from collections.abc import Callable
from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.ending import MAX_ENDED, ApplyReports, PassedWatermark, end_jobs
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.jobs.store.store import Store

# A worker reports every 30 seconds that it runs a job, unless it has lost the broker. So a gateway must have been
# connected without a gap for as long before it ends a job.
LOST_AFTER: Final = 300.0  # seconds


class Watch(Service):
    """Ends started jobs of which no report was published for `LOST_AFTER` seconds before the watermark.

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
        """End the jobs whose worker is lost."""
        now = self._clock()
        since = now - LOST_AFTER
        if await self._store.without_report(since, 1) and await self._watermark.has_passed(now, observed=LOST_AFTER):
            ids = await self._store.without_report(since, MAX_ENDED)
            message = f"the worker has not reported for {LOST_AFTER:.0f} s"
            await end_jobs(
                self._apply, ids, JobStatus.ERROR, type_name="WorkerLost", message=message, may_be_queued=True
            )

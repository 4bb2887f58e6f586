"""Expires queued jobs that no worker took in time."""

from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.ending import UnreportedService

REPORT_DELAY: Final = 1.0  # seconds that a worker may take to report a start; clocks are in step to a second


class Expire(UnreportedService):
    """Ends queued jobs whose due time is before the watermark: the report of their start would be committed by now."""

    async def step(self) -> None:
        """Expire the jobs that are due."""
        now = self._clock()
        ids = await self._unreported(
            lambda most: self._store.overdue(now - REPORT_DELAY, most),
            before=now,
            observed=self._store.tuning.reconnect,
        )
        message = "no worker took the job in time"
        await self._end(ids, JobStatus.EXPIRED, type_name="ExpirationError", message=message, may_be_queued=True)

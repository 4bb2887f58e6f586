"""Ends long jobs whose worker no longer reports that it runs them.

The worker of a long job has acknowledged its message. So the broker does not deliver it again when the host is lost.
"""

from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.ending import UnreportedService

# A worker reports every 30 seconds that it runs a job, unless it has lost the broker. So a gateway must have been
# connected without a gap for as long before it ends a job.
LOST_AFTER: Final = 300.0  # seconds


class Watch(UnreportedService):
    """Ends started jobs of which no report was published for `LOST_AFTER` seconds before the watermark."""

    async def step(self) -> None:
        """End the jobs whose worker is lost."""
        now = self._clock()
        ids = await self._unreported(
            lambda most: self._store.without_report(now - LOST_AFTER, most), before=now, observed=LOST_AFTER
        )
        message = f"the worker has not reported for {LOST_AFTER:.0f} s"
        await self._end(ids, JobStatus.ERROR, type_name="WorkerLost", message=message, may_be_queued=True)

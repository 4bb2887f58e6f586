"""Ends long jobs whose worker no longer reports that it runs them.

The worker of a long job has acknowledged its message. So the broker does not deliver it again when the host is lost.
"""

import time
from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.step import MAX_ENDED, EndingStep, end_jobs

# A worker reports every 30 seconds that it runs a job. Reports may wait in the queue while no gateway is up: so a
# gateway has to consume for as long before it ends a job.
LOST_AFTER: Final = 300.0  # seconds


class Watch(EndingStep):
    """Ends started jobs without a report for `LOST_AFTER` seconds."""

    async def run(self) -> None:
        """End the jobs whose worker is lost."""
        if self._continuity.seconds < LOST_AFTER:
            return
        ids = await self._store.without_report(time.time() - LOST_AFTER, MAX_ENDED)
        if ids and await self._is_behind():
            return
        message = f"the worker has not reported for {LOST_AFTER:.0f} s"
        await end_jobs(self._apply, ids, JobStatus.ERROR, type_name="WorkerLost", message=message, may_be_queued=True)

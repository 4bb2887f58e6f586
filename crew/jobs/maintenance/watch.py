"""Ends long jobs whose worker no longer reports that it runs them.

The worker of a long job has acknowledged its message. So the broker does not deliver it again when the host is lost.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.continuity import Continuity
from crew.jobs.maintenance.step import MAX_ENDED, ApplyReports, end_jobs
from crew.jobs.store.store import Store

# A worker reports every 30 seconds that it runs a job. Reports may wait in the queue while no gateway is up: so a
# gateway has to consume for as long before it ends a job.
LOST_AFTER: Final = 300.0  # seconds


class Watch:
    """Ends started jobs without a report for `LOST_AFTER` seconds.

    Args:
        is_behind: whether there are reports that are not committed.
    """

    def __init__(
        self,
        store: Store,
        continuity: Continuity,
        *,
        apply: ApplyReports,
        is_behind: Callable[[], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._continuity = continuity
        self._apply = apply
        self._is_behind = is_behind

    async def run(self) -> None:
        """End the jobs whose worker is lost."""
        if self._continuity.seconds < LOST_AFTER:
            return
        ids = await self._store.without_report(time.time() - LOST_AFTER, MAX_ENDED)
        if ids and await self._is_behind():
            return
        message = f"the worker has not reported for {LOST_AFTER:.0f} s"
        await end_jobs(self._apply, ids, JobStatus.ERROR, type_name="WorkerLost", message=message, may_be_queued=True)

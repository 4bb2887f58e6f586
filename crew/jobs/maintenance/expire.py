"""Expires queued jobs that no worker took in time."""

import time
from typing import Final

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.step import MAX_ENDED, EndingStep, end_jobs

# A job that was started or done in time may be overdue in its record only: its report waits in the queue. A gateway
# that has just started consumes and commits all reports before it expires a job, however long that takes.
CATCH_UP: Final = 2.0  # seconds
BETWEEN_CHECKS: Final = 0.5  # seconds, at least: reports that a gateway has taken are committed within this time
REPORT_DELAY: Final = 1.0  # seconds that the report of a worker may take to arrive


class Expire(EndingStep):
    """Ends jobs that were overdue at two checks.

    Reports that had left the queue before the first check are committed by the second, also by another gateway.
    """

    _first_check: float | None = None  # time.monotonic(): not behind, and jobs are overdue, since then

    async def run(self) -> None:
        """Expire the overdue jobs at the second check."""
        ids = await self._store.overdue(time.time() - REPORT_DELAY, MAX_ENDED)
        if self._continuity.seconds < CATCH_UP or not ids or await self._is_behind():
            self._first_check = None
            return
        self._first_check = self._first_check or time.monotonic()
        if time.monotonic() - self._first_check >= BETWEEN_CHECKS:
            message = "no worker took the job in time"
            await end_jobs(
                self._apply,
                ids,
                JobStatus.EXPIRED,
                type_name="ExpirationError",
                message=message,
                may_be_queued=True,
            )

"""The contract of a maintenance step, and the way a step ends jobs."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from crew.jobs import report
from crew.jobs.job import JobStatus
from crew.jobs.report import Report

MAX_ENDED: Final = 500  # jobs that a step ends at a time

ApplyReports = Callable[[Sequence[Report]], Awaitable[None]]


class Step(Protocol):
    """One kind of maintenance. The loop runs it once a round."""

    async def run(self) -> None:
        """Do what is due now. Raises what the store raises; the loop logs it and retries in the next round."""
        ...


async def end_jobs(
    apply: ApplyReports,
    ids: Sequence[str],
    status: JobStatus,
    *,
    type_name: str,
    message: str,
    may_be_queued: bool = False,
) -> None:
    """End the jobs with these ids.

    Args:
        apply: commits the reports, wakes the waiters and tells the workers.
        type_name, message: of the failure that is recorded.
        may_be_queued: whether their messages may still be in a queue, so that workers have to refuse them.
    """
    now = time.time()
    ended = [
        report.ended(id, status, at=now, type_name=type_name, message=message, may_be_queued=may_be_queued)
        for id in ids
    ]
    if ended:
        await apply(ended)

"""Ends jobs in the name of this gateway. Republish, Expire and Watch use it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from crew.jobs.job import JobStatus
from crew.jobs.reports import report
from crew.jobs.reports.report import Report

MAX_ENDED: Final = 500  # jobs that a step ends at a time

ApplyReports = Callable[[Sequence[Report]], Awaitable[None]]


class PassedWatermark(Protocol):
    """The part of `Watermark` that Expire and Watch use."""

    async def has_passed(self, at: float, *, observed: float) -> bool:
        """Whether all reports published before `at` are committed; see `Watermark.has_passed`."""
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
        apply: commits the reports, wakes the waiters and sends control messages to the workers.
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

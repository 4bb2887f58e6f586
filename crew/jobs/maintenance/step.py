"""The contract of a maintenance step, and what the steps that end jobs share."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from crew.jobs.job import JobStatus
from crew.jobs.maintenance.continuity import Continuity
from crew.jobs.reports import report
from crew.jobs.reports.report import Report
from crew.jobs.store.store import Store

MAX_ENDED: Final = 500  # jobs that a step ends at a time

ApplyReports = Callable[[Sequence[Report]], Awaitable[None]]


class Step(Protocol):
    """One kind of maintenance. The loop runs it once a round."""

    async def run(self) -> None:
        """Do what is due now. Raises what the store raises; the loop logs it and retries in the next round."""
        ...


class EndingStep:
    """A step that ends jobs for which a report is missing.

    Args:
        continuity: how long this gateway has consumed reports without a pause.
        apply: commits the reports, wakes the waiters and sends control messages to the workers.
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
        apply: as for EndingStep.
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

"""How many jobs of a store have each status."""

import collections

from crew.jobs import JobQuery, JobStatus, JobStore
from crew.jobs.store.query import MAX_PAGE


async def counted(store: JobStore) -> dict[JobStatus, int]:
    """Statuses that no job has are left out."""
    counts: collections.Counter[JobStatus] = collections.Counter()
    cursor: str | None = None
    while True:
        page = await store.page(JobQuery(statuses=None, limit=MAX_PAGE, cursor=cursor))
        counts.update(job.status for job in page.jobs)
        if (cursor := page.cursor) is None:
            return dict(counts)

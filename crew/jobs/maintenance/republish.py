"""Publishes jobs that the broker does not have."""

from collections.abc import Callable
from typing import Final

from crew.clock import wall_time
from crew.errors import Overloaded, TaskError, TooLarge
from crew.jobs.job import LEASE, Job, JobStatus
from crew.jobs.maintenance.ending import ApplyReports, EndingService
from crew.jobs.maintenance.service import INTERVAL
from crew.jobs.publisher import Publisher
from crew.jobs.store.store import Store

MAX_CLAIMED: Final = 200  # jobs that are claimed at a time


class Republish(EndingService):
    """Publishes due jobs of `store`, as long as there are any and the broker takes them.

    Args:
        apply, clock, interval: as for EndingService.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        *,
        apply: ApplyReports,
        clock: Callable[[], float] = wall_time,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(store, apply=apply, clock=clock, interval=interval)
        self._publisher = publisher

    async def step(self) -> None:
        """Claim due jobs and publish them, batch by batch."""
        while self._publisher.can_publish:
            until = self._clock() + LEASE
            claimed = await self._store.claim(self._clock(), until=until, most=MAX_CLAIMED)
            published = []
            for job in claimed:
                if not self._publisher.can_publish or self._clock() >= until:
                    return  # a gateway claims the rest when the lease is over
                published.append(await self._publish(job))
            if len(claimed) < MAX_CLAIMED or not all(published):
                return

    async def _publish(self, job: Job) -> bool:
        try:
            return await self._publisher.publish(job)
        except Overloaded:
            await self._store.postpone(job.id, self._clock() + self._store.tuning.retry_full)
            return False
        except (TaskError, TooLarge) as error:
            message = f"the job was accepted, but could not be published: {error}"
            await self._end([job.id], JobStatus.ERROR, type_name=type(error).__name__, message=message)
            return True

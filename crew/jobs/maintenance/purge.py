"""Deletes the records of jobs whose time to live is over."""

from collections.abc import Callable

from crew.clock import wall_time
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.jobs.store.store import Store
from crew.jobs.store.update import MAX_PURGED


class Purge(Service):
    """Deletes due records of `store`, batch by batch.

    Args:
        clock: epoch seconds.
        batch: records that are deleted at a time.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = wall_time,
        interval: float = INTERVAL,
        batch: int = MAX_PURGED,
    ) -> None:
        super().__init__(interval=interval)
        self._batch = batch
        self._store = store
        self._clock = clock

    async def step(self) -> None:
        """Delete until none is due."""
        while await self._store.purge(self._clock(), most=self._batch):
            pass

"""The maintenance of a job store: one service for each kind of periodic work."""

from collections.abc import Callable

from crew.client.closing import run_all
from crew.clock import wall_time
from crew.jobs.maintenance.ending import ApplyReports
from crew.jobs.maintenance.expire import Expire
from crew.jobs.maintenance.purge import Purge
from crew.jobs.maintenance.republish import Republish
from crew.jobs.maintenance.service import INTERVAL, Service
from crew.jobs.maintenance.watch import Watch
from crew.jobs.maintenance.watermark import Watermark
from crew.jobs.publisher import Publisher
from crew.jobs.store.store import Store


class Maintenance:
    """Maintains the jobs of `store`.

    Args:
        apply: commits the reports, wakes the waiters and sends control messages to the workers.
        watermark: whether all reports published before an instant are committed.
        clock: epoch seconds.
        interval: seconds between two steps of each service.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        watermark: Watermark,
        *,
        apply: ApplyReports,
        clock: Callable[[], float] = wall_time,
        interval: float = INTERVAL,
    ) -> None:
        self._republish = Republish(store, publisher, apply=apply, clock=clock, interval=interval)
        self._services: tuple[Service, ...] = (
            watermark,
            self._republish,
            Expire(store, watermark, apply=apply, clock=clock, interval=interval),
            Watch(store, watermark, apply=apply, clock=clock, interval=interval),
            Purge(store, clock=clock, interval=interval),
        )

    def __repr__(self) -> str:
        return f"<Maintenance: {', '.join(map(repr, self._services))}>"

    def start(self) -> None:
        """Start all services; idempotent."""
        for service in self._services:
            service.start()

    async def stop(self) -> None:
        """Stop all services; idempotent."""
        await run_all(*(service.stop for service in self._services))

    def wake(self) -> None:
        """Publish due jobs now: there may be some, or the broker is back."""
        self._republish.wake()

"""The maintenance loop: runs the steps one after another, once a second."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from crew.errors import ConnectionError, CrewError
from crew.jobs.maintenance.continuity import Continuity
from crew.jobs.maintenance.expire import Expire
from crew.jobs.maintenance.purge import Purge
from crew.jobs.maintenance.republish import Republish
from crew.jobs.maintenance.step import ApplyReports, Step
from crew.jobs.maintenance.watch import Watch
from crew.jobs.publisher import Publisher
from crew.jobs.store.store import Store

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds between two rounds


class Maintenance:
    """Maintains the jobs of `store`.

    Args:
        apply: commits reports, wakes the waiters and tells the workers.
        consuming_for: seconds for which this gateway has consumed job reports without a break.
        is_behind: whether there are reports that are not committed.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        *,
        apply: ApplyReports,
        consuming_for: Callable[[], float],
        is_behind: Callable[[], Awaitable[bool]],
    ) -> None:
        self.continuity = Continuity(consuming_for)
        self._steps: tuple[Step, ...] = (
            Republish(store, publisher, apply=apply),
            Expire(store, self.continuity, apply=apply, is_behind=is_behind),
            Watch(store, self.continuity, apply=apply, is_behind=is_behind),
            Purge(store),
        )
        self._wake_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Maintenance: {'running' if self._task else 'not started'}>"

    def start(self) -> None:
        """Start the loop; idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="job maintenance")

    async def stop(self) -> None:
        """Stop the loop; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        """Start a round now, or another one after the current round: there may be jobs to publish."""
        self._wake_up.set()

    async def _run(self) -> None:
        while True:
            self._wake_up.clear()  # before the round: a wake-up during the round starts another one
            for step in self._steps:
                await self._run_step(step)
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._wake_up.wait()
            except TimeoutError:
                continue

    async def _run_step(self, step: Step) -> None:
        self.continuity.check_clock()
        name = type(step).__name__.lower()
        try:
            await step.run()
        except ConnectionError as error:  # the store or the link logs an outage, once
            self.continuity.restart()
            logger.debug("job maintenance failed, retrying in %g s: step=%s: %s", INTERVAL, name, error)
        except CrewError as error:
            logger.warning("job maintenance failed, retrying in %g s: step=%s: %s", INTERVAL, name, error)
        except Exception:
            logger.exception("job maintenance failed, retrying in %g s: step=%s", INTERVAL, name)

"""Submits under way: the record, then the broker; and where that refuses it, no record."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.errors import ConnectionError, CrewError, UnknownJob
from crew.jobs.job import Job, JobStatus
from crew.jobs.publisher import LEASE, Publisher
from crew.jobs.specification import renewed
from crew.jobs.store.insert import Admitted, Candidate
from crew.jobs.store.store import Store

LOOK_AGAIN: Final = 0.02  # seconds: the broker mostly answers sooner


class Submissions:
    """Records jobs in `store`, and publishes them.

    Args:
        on_replaced: told of the jobs that others have taken the place of, or that are what they were after all.
    """

    def __init__(self, store: Store, publisher: Publisher, *, on_replaced: Callable[[Sequence[Job]], None]) -> None:
        self._store = store
        self._publisher = publisher
        self._on_replaced = on_replaced
        self._is_closed = False

    def close(self) -> None:
        """Nobody waits for what others submit any longer; idempotent."""
        self._is_closed = True

    async def submit(self, candidate: Candidate) -> Admitted:
        """Record a job and publish it, unless there is one that is meant.

        Raises what `Publisher.publish` and `JobStore.admit` do.
        """
        admitted = await self._store.admit(candidate)
        while not admitted.is_new and not await self._stays(admitted.job):
            candidate = renewed(candidate)
            admitted = await self._store.admit(candidate)
        if admitted.is_new:
            await self._publish(admitted)
        return admitted

    async def _stays(self, job: Job) -> bool:
        """Whether a job that somebody else has submitted is accepted; where it is refused, its record goes again."""
        while _is_being_submitted(job):
            await asyncio.sleep(LOOK_AGAIN)
            if self._is_closed:
                raise ConnectionError("the client was closed", missing="client")
            try:
                job = await self._store.get(job.id, with_bodies=False)
            except UnknownJob:
                return False
        return True

    async def _publish(self, admitted: Admitted) -> None:
        """Publish a job that was recorded; the jobs that it replaces end only when it is sure to come."""
        replaced = admitted.replaced
        try:
            await self._publisher.publish(admitted.job)
        except CrewError:
            replaced = await self._store.withdraw(admitted)  # who submits it is told, so that it was never accepted
            raise
        finally:
            self._on_replaced(replaced)


def _is_being_submitted(job: Job) -> bool:
    """Whether the broker's first word on it may still come to the gateway that has recorded it."""
    is_first = job.enqueued is None and job.status is JobStatus.QUEUED and job.publish_at == job.created + LEASE
    return is_first and time.time() < job.created + LEASE

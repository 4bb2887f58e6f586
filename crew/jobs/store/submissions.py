"""Submits jobs: inserts the record, publishes it, and deletes the record if the broker refuses the job."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from crew.errors import ConnectionError, CrewError, UnknownJob
from crew.jobs.job import Job
from crew.jobs.publisher import Publisher
from crew.jobs.specification import Specification, renew
from crew.jobs.store.insert import InsertResult
from crew.jobs.store.store import Store

POLL_INTERVAL: Final = 0.02  # seconds: the broker mostly confirms sooner


class Submissions:
    """Inserts jobs into `store`, and publishes them.

    Args:
        on_replaced: called with the jobs that new jobs have replaced, after their final state is committed.
    """

    def __init__(self, store: Store, publisher: Publisher, *, on_replaced: Callable[[Sequence[Job]], None]) -> None:
        self._store = store
        self._publisher = publisher
        self._on_replaced = on_replaced
        self._is_closed = False

    def close(self) -> None:
        """Stop waiting for submits of other callers; idempotent."""
        self._is_closed = True

    async def submit(self, specification: Specification) -> InsertResult:
        """Insert a job and publish it, unless an existing job has its unique or idempotency key.

        Raises what `Publisher.publish` and `JobStore.insert` do.
        """
        inserted = await self._store.insert(specification)
        while not inserted.is_new and not await self._is_accepted(inserted.job):
            specification = renew(specification)
            inserted = await self._store.insert(specification)
        if inserted.is_new:
            await self._publish(inserted)
        return inserted

    async def _is_accepted(self, job: Job) -> bool:
        """Wait until a job of another submit is accepted; False if the broker refused it and its record is deleted."""
        while _is_being_submitted(job):
            await asyncio.sleep(POLL_INTERVAL)
            if self._is_closed:
                raise ConnectionError("the client was closed", missing="client")
            try:
                job = await self._store.get(job.id, with_bodies=False)
            except UnknownJob:
                return False
        return True

    async def _publish(self, inserted: InsertResult) -> None:
        """Publish an inserted job. If the broker refuses it, restore the jobs that it replaced."""
        replaced = inserted.replaced
        try:
            await self._publisher.publish(inserted.job)
        except CrewError:
            replaced = await self._store.withdraw(inserted)  # the caller gets the error: the job was never accepted
            raise
        finally:
            self._on_replaced(replaced)


def _is_being_submitted(job: Job) -> bool:
    """Whether the gateway that inserted the job may still wait for the broker's first confirm."""
    return job.submit_until is not None and time.time() < job.submit_until

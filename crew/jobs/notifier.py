"""Keeps the workers' copies of the list of revoked jobs: the whole list when a worker connects, then each new cancel.

A worker starts no job that is on the list. A cancel that was committed and not sent is the one case that the list does
not cover. Then a worker reports the start of a job that has ended, and `stop` sends it the cancel.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from crew import errors
from crew.amqp import Link
from crew.jobs.job import Job
from crew.jobs.reports.report import Report
from crew.jobs.store.store import Store
from crew.protocol import properties, topology
from crew.protocol.message import Control, RevocationRequest
from crew.protocol.properties import Properties
from crew.protocol.revocation_request import MAX_REVOKED, of_answer

logger = logging.getLogger(__name__)

OnAnswered = Callable[[Sequence[str]], Awaitable[object]]

CANCELED: Final = "canceled"
MAX_WAITING: Final = 1_000  # workers that wait for an answer; the request of one more is discarded, and times out there


class Notifier:
    """Sends control messages to workers over `link`, about the jobs of `store`.

    Nothing is sent while the broker is unavailable.

    Args:
        max_waiting: workers that may wait for an answer. Default 1,000.
    """

    def __init__(self, link: Link, store: Store, *, max_waiting: int = MAX_WAITING) -> None:
        self._link = link
        self._max_waiting = max_waiting
        self._store = store
        self._requests: dict[str, RevocationRequest] = {}  # worker -> its latest request
        self._is_answering = False

    def cancel(self, job: Job) -> None:
        """Add `job` to the lists of all workers of its task, which also interrupt it if it runs."""
        self._send(topology.control_key_of_task(job.task), Control(id=job.id, reason=CANCELED, is_job=True))

    def stop(self, report: Report) -> None:
        """Add the job to the list of the worker that has reported its start: it was not on it."""
        if report.worker is not None:
            self._send(
                topology.control_key_of_worker(report.worker), Control(id=report.id, reason=CANCELED, is_job=True)
            )

    async def answer(self, request: RevocationRequest, on_answered: OnAnswered) -> None:
        """Answer a worker that asks which jobs of its tasks are revoked. Answers run one at a time.

        Args:
            on_answered: awaited with the tasks of the workers that were answered.
        """
        if request.worker not in self._requests and len(self._requests) >= self._max_waiting:
            logger.warning(
                "revocation request discarded: %d workers wait for an answer worker=%r",
                self._max_waiting,
                request.worker,
            )
            return
        self._requests[request.worker] = request
        if self._is_answering:
            return
        self._is_answering = True
        try:
            while self._requests:
                await self._answer(*self._take_alike(), on_answered)
        finally:
            self._is_answering = False

    def _take_alike(self) -> tuple[Sequence[str], list[RevocationRequest]]:
        """Take the requests for the same tasks as the first one: one read answers all of them."""
        tasks = next(iter(self._requests.values())).tasks
        alike = [one for one in self._requests.values() if one.tasks == tasks]
        for one in alike:
            del self._requests[one.worker]
        return tasks, alike

    async def _answer(
        self, tasks: Sequence[str], requests: Sequence[RevocationRequest], on_answered: OnAnswered
    ) -> None:
        try:
            ids = await self._store.revoked(tasks, MAX_REVOKED)
            for request in requests:
                fields, body = of_answer(request, self._store.queue, ids)
                self._publish(topology.control_key_of_worker(request.worker), fields, body)
                await asyncio.sleep(0)
            await on_answered(tasks)
        except errors.CrewError as error:
            logger.debug("revocation request not answered workers=%d: %s", len(requests), error)

    def _send(self, key: str, control: Control) -> None:
        self._publish(key, properties.of_control(control), b"")

    def _publish(self, key: str, fields: Properties, body: bytes) -> None:
        try:
            self._link.publish(topology.CONTROL, key, fields, body, mandatory=False)
        except errors.ConnectionError:
            logger.info("job cancel not sent to workers: the broker is unavailable job=%s", fields.correlation_id)

"""What workers are told of jobs: that one was given up, and, when they come, which ones were while nobody listened."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from crew import errors
from crew.amqp import Link
from crew.jobs.job import Job
from crew.jobs.report import Report
from crew.jobs.store.store import Store
from crew.protocol import properties, topology
from crew.protocol.briefing import MAX_BRIEFED, of_briefed
from crew.protocol.message import Briefing, Control
from crew.protocol.properties import Properties

logger = logging.getLogger(__name__)

OnAsked = Callable[[Sequence[str]], Awaitable[object]]

CANCELED: Final = "canceled"
MAX_ASKING: Final = 1_000  # workers that wait for an answer; one more waits until its patience is over


class Notifier:
    """Tells workers over `link` of the jobs of `store`.

    Where the broker is away they are not told: a worker that runs what was given up says so, and hears then.
    """

    def __init__(self, link: Link, store: Store) -> None:
        self._link = link
        self._store = store
        self._asking: dict[str, Briefing] = {}  # worker -> its last question
        self._is_answering = False

    def cancel(self, job: Job) -> None:
        """To all workers of its task: `job` is given up."""
        self._tell(topology.control_key_of_task(job.task), Control(id=job.id, reason=CANCELED, is_job=True))

    def stop(self, said: Report) -> None:
        """To the worker that has said that it began: the job was given up before."""
        if said.worker is not None:
            self._tell(topology.control_key_of_worker(said.worker), Control(id=said.id, reason=CANCELED, is_job=True))

    async def brief(self, briefing: Briefing, on_asked: OnAsked) -> None:
        """Answer a worker: which jobs of its tasks were given up. One answer after another, whoever asks how often.

        Args:
            on_asked: awaited with the tasks of each worker that is answered.
        """
        if briefing.worker not in self._asking and len(self._asking) >= MAX_ASKING:
            logger.warning("briefing discarded: %d workers wait for an answer worker=%r", MAX_ASKING, briefing.worker)
            return
        self._asking[briefing.worker] = briefing
        if self._is_answering:
            return
        self._is_answering = True
        try:
            while self._asking:
                await self._answer(*self._take_alike(), on_asked)
        finally:
            self._is_answering = False

    def _take_alike(self) -> tuple[Sequence[str], list[Briefing]]:
        """Those who ask about the same tasks as the first one: they are answered together."""
        tasks = next(iter(self._asking.values())).tasks
        alike = [one for one in self._asking.values() if one.tasks == tasks]
        for one in alike:
            del self._asking[one.worker]
        return tasks, alike

    async def _answer(self, tasks: Sequence[str], briefings: Sequence[Briefing], on_asked: OnAsked) -> None:
        try:
            ids = await self._store.given_up(tasks, MAX_BRIEFED)
            for briefing in briefings:
                told, body = of_briefed(briefing, self._store.queue, ids)
                self._publish(topology.control_key_of_worker(briefing.worker), told, body)
                await asyncio.sleep(0)
            await on_asked(tasks)
        except errors.CrewError as error:
            logger.debug("briefing not answered workers=%d: %s", len(briefings), error)

    def _tell(self, key: str, control: Control) -> None:
        self._publish(key, properties.of_control(control), b"")

    def _publish(self, key: str, told: Properties, body: bytes) -> None:
        try:
            self._link.publish(topology.CONTROL, key, told, body, mandatory=False)
        except errors.ConnectionError:
            logger.info("workers are not told of job %s: the broker is away", told.correlation_id)

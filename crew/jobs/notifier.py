"""What workers are told of jobs: that one was given up, and, when they come, which ones were while nobody listened."""

import logging
from typing import Final

from crew import errors
from crew.amqp import Link
from crew.jobs.job import Job
from crew.jobs.report import Report
from crew.jobs.store import JobStore
from crew.protocol import properties, topology
from crew.protocol.briefing import BRIEFED, briefed_id
from crew.protocol.message import Briefing, Control

logger = logging.getLogger(__name__)

CANCELED: Final = "canceled"
MAX_BRIEFED: Final = 10_000  # cancels that one worker is told of: the newest


class Notifier:
    """Tells workers over `link` of the jobs of `store`.

    Where the broker is away they are not told: a worker that runs what was given up says so, and hears then.
    """

    def __init__(self, link: Link, store: JobStore) -> None:
        self._link = link
        self._store = store

    def cancel(self, job: Job) -> None:
        """To all workers of its task: `job` is given up."""
        self._tell(topology.control_key_of_task(job.task), Control(id=job.id, reason=CANCELED, is_job=True))

    def stop(self, said: Report) -> None:
        """To the worker that has said that it began: the job was given up before."""
        if said.worker is not None:
            self._tell(topology.control_key_of_worker(said.worker), Control(id=said.id, reason=CANCELED, is_job=True))

    async def brief(self, briefing: Briefing) -> None:
        """To a worker that has asked: what was given up of its tasks, and that this is all."""
        ids = await self._store.given_up(briefing.tasks, MAX_BRIEFED)
        key = topology.control_key_of_worker(briefing.worker)
        for id in reversed(ids):
            self._tell(key, Control(id=id, reason=CANCELED, is_job=True))
        self._tell(key, Control(id=briefed_id(briefing.id, self._store.queue), reason=BRIEFED))

    def _tell(self, key: str, control: Control) -> None:
        try:
            self._link.publish(topology.CONTROL, key, properties.of_control(control), b"", mandatory=False)
        except errors.ConnectionError:
            logger.info("workers are not told of job %s: the broker is away", control.id)

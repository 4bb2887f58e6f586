"""Wakes callers that wait for a job: on commits of this gateway, on events of other gateways, and by a slow poll.

A caller names the version that it knows, and is woken only when a newer one is committed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Container, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final

from crew.errors import CrewError
from crew.jobs.job import Job
from crew.jobs.tuning import DEFAULT

logger = logging.getLogger(__name__)

POLL_BATCH: Final = 500  # jobs at a time

Woken = asyncio.Event


class Waiters:
    """The callers that wait for a change of a job, or for its end.

    Args:
        read_jobs: returns the existing jobs with these ids, as they are now.
        poll_interval: seconds between two reads of the jobs that callers wait for.
    """

    def __init__(
        self,
        read_jobs: Callable[[Collection[str]], Coroutine[Any, Any, Iterable[Job]]],
        *,
        poll_interval: float = DEFAULT.poll_interval,
    ) -> None:
        self._read_jobs = read_jobs
        self._poll_interval = poll_interval
        self._waiting: dict[str, dict[Woken, int | None]] = {}  # by id; each with its known version; None: the end
        self._polling: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __repr__(self) -> str:
        return f"<Waiters: {len(self)} for {len(self._waiting)} jobs>"

    @contextlib.contextmanager
    def waiting(self, id: str, version: int | None = None) -> Iterator[Woken]:
        """An event that is set when the job may have a newer version, or may have ended.

        Args:
            id: of the job.
            version: the known version: a newer one sets the event. None: only the end of the job sets it.
        """
        woken = Woken()
        self._waiting.setdefault(id, {})[woken] = version
        if self._polling is None:
            self._polling = asyncio.get_running_loop().create_task(self._poll(), name="job waiters")
        try:
            yield woken
        finally:
            others = self._waiting[id]
            del others[woken]
            if not others:
                del self._waiting[id]

    def wake(self, versions: Mapping[str, int], ended: Container[str]) -> None:
        """Wake the waiters that know an older version of a job, and those for its end if the job is in `ended`.

        Args:
            versions: the committed version of each changed job, by id.
        """
        for id, committed in versions.items():
            for woken, known in self._waiting.get(id, {}).items():
                if id in ended or (known is not None and known < committed):
                    woken.set()

    def wake_all(self) -> None:
        """Wake every waiter, because the process ends."""
        self.wake(dict.fromkeys(self._waiting, 0), self._waiting)

    def close(self) -> None:
        """Wake every waiter, and stop the poll; idempotent."""
        self.wake_all()
        if self._polling is not None:
            self._polling.cancel()

    async def _poll(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._poll_interval)
                with contextlib.suppress(CrewError):  # the store is unavailable: the next poll retries
                    await self._poll_all()
        finally:
            self._polling = None

    async def _poll_all(self) -> None:
        ids = list(self._waiting)
        for first in range(0, len(ids), POLL_BATCH):
            batch = ids[first : first + POLL_BATCH]
            jobs = {job.id: job for job in await self._read_jobs(batch)}
            for id in batch:
                self._wake_outdated(id, jobs.get(id))

    def _wake_outdated(self, id: str, job: Job | None) -> None:
        """Wake the waiters that do not know the current state of the job; None: its record was deleted."""
        for woken, version in self._waiting.get(id, {}).items():
            if job is None or job.status.is_final or (version is not None and job.version > version):
                woken.set()


async def within(seconds: float | None, woken: Woken) -> None:
    """Wait until the event is set, or the time is over; None: without a limit."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return

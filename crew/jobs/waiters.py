"""Waiters for jobs: woken by the commits of this gateway, by the events of other gateways, and by a slow poll."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Container, Coroutine, Iterable, Iterator
from typing import Any, Final

from crew.errors import CrewError
from crew.jobs.job import Job

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 5.0  # seconds: the event of another gateway may be lost with a connection
LOOK_AT: Final = 500  # jobs at a time

Woken = asyncio.Event


class Waiters:
    """Wakes those that wait for a change of a job, or for its end.

    Args:
        look: gives those that there are of the jobs with these ids, as they are now.
    """

    def __init__(self, look: Callable[[Collection[str]], Coroutine[Any, Any, Iterable[Job]]]) -> None:
        self._look = look
        self._waiting: dict[str, dict[Woken, int | None]] = {}  # each with the version that it knows; None: the end
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __repr__(self) -> str:
        return f"<Waiters: {len(self)} for {len(self._waiting)} jobs>"

    @contextlib.contextmanager
    def waiting(self, id: str, version: int | None = None) -> Iterator[Woken]:
        """An event that is set when the job may have a newer version, or may have ended.

        Args:
            id: of the job.
            version: that is known: any newer one sets the event. None: only the end of the job does.
        """
        woken = Woken()
        self._waiting.setdefault(id, {})[woken] = version
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_now_and_then(), name="job waiters")
        try:
            yield woken
        finally:
            others = self._waiting[id]
            del others[woken]
            if not others:
                del self._waiting[id]

    def wake(self, changed: Iterable[str], ended: Container[str]) -> None:
        """Wake the waiters for any change of these jobs; those for an end only where the job is in `ended`."""
        for id in changed:
            for woken, version in self._waiting.get(id, {}).items():
                if version is not None or id in ended:
                    woken.set()

    def wake_all(self) -> None:
        """Wake every waiter: nothing else will any more."""
        self.wake(self._waiting, self._waiting)

    def close(self) -> None:
        """Wake everybody, and look no more; idempotent."""
        self.wake_all()
        if self._looking is not None:
            self._looking.cancel()

    async def _look_now_and_then(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_EVERY)
                with contextlib.suppress(CrewError):  # the store is away: later
                    await self._look_at_all()
        finally:
            self._looking = None

    async def _look_at_all(self) -> None:
        ids = list(self._waiting)
        for first in range(0, len(ids), LOOK_AT):
            some = ids[first : first + LOOK_AT]
            known = {job.id: job for job in await self._look(some)}
            for id in some:
                self._tell(id, known.get(id))

    def _tell(self, id: str, job: Job | None) -> None:
        """Wake those who wait for `job` and do not know of it as it is; None: it has gone."""
        for woken, version in self._waiting.get(id, {}).items():
            if job is None or job.status.is_final or (version is not None and job.version > version):
                woken.set()


async def within(seconds: float | None, woken: Woken) -> None:
    """Wait until somebody is woken, or the time is over; None: for as long as it takes."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return

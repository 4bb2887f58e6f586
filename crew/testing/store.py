"""The job store of a test: SQLite in the folder of the test, with the clock of the test."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from crew.jobs.service import JobStore
from crew.jobs.store.database import Database
from crew.jobs.tuning import JobTuning
from crew.testing.clock import Clock

# A job that waits for an hour would be looked at 3,600 times with the default of 1 s.
TUNING: Final = JobTuning(maintenance_interval=30.0, poll_interval=300.0, progress_check=300.0)


class ClockedDatabase(Database):
    """As Database; no time passes while it is used: its driver has threads of its own, or a server."""

    clock: Clock

    async def open(self) -> None:
        """See Database."""
        with self.clock.busy():
            await super().open()

    async def close(self) -> None:
        """See Database."""
        with self.clock.busy():
            await super().close()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[Any]:
        """See Database."""
        with self.clock.busy():
            async with super().write() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        """See Database."""
        with self.clock.busy():
            async with super().read() as connection:
                yield connection


def make_store(url: str, clock: Clock) -> JobStore:
    """Make a job store that uses `clock`."""

    class OfThisClock(ClockedDatabase):
        pass

    OfThisClock.clock = clock

    class OfThisTest(JobStore):
        database_class = OfThisClock

    return OfThisTest(url, tuning=TUNING)

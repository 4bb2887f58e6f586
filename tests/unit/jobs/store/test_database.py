"""A step whose connection breaks is run once more on another one, unless it may have been committed."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import ConnectionError
from crew.jobs.store.database import Database
from crew.jobs.store.errors import Broken
from tests.support.a_job import url_of


class Steps:
    """A step whose first runs raise `faults`."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.runs = 0

    async def run(self, connection: AsyncConnection) -> int:
        self.runs += 1
        await connection.execute(text("select 1"))
        if self.faults:
            raise self.faults.pop(0)
        return self.runs


@pytest.mark.parametrize("use", ["commit", "fetch"])
@pytest.mark.gen_test
async def test_a_step_whose_connection_breaks_is_run_once_more(tmp_path: Path, use: str) -> None:
    database = Database(url_of(tmp_path))
    assert await getattr(database, use)(Steps(Broken("gone")).run) == 2
    assert database.availability.error is None, "no outage"
    with pytest.raises(ConnectionError, match="gone"):
        await getattr(database, use)(Steps(Broken("gone"), Broken("gone")).run)
    await database.close()


@pytest.mark.parametrize("use", ["commit", "fetch"])
@pytest.mark.gen_test
async def test_another_error_of_a_step_is_raised_without_a_retry(tmp_path: Path, use: str) -> None:
    database = Database(url_of(tmp_path))
    steps = Steps(ConnectionError("full"))
    with pytest.raises(ConnectionError, match="full"):
        await getattr(database, use)(steps.run)
    assert steps.runs == 1
    await database.close()


@pytest.mark.gen_test
async def test_a_step_that_may_be_committed_is_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(url_of(tmp_path))
    write = database.write

    @contextlib.asynccontextmanager
    async def lost() -> AsyncIterator[AsyncConnection]:
        async with write() as connection:
            yield connection
        raise Broken("gone during the commit")

    monkeypatch.setattr(database, "write", lost)
    steps = Steps()
    with pytest.raises(ConnectionError, match="gone during the commit") as caught:
        await database.commit(steps.run)
    assert not isinstance(caught.value, Broken)
    assert steps.runs == 1
    await database.close()

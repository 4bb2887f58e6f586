"""Reads during a SELECT share the next one, and get no state that is older than the read."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import ConnectionError
from crew.jobs.job import Job
from crew.jobs.store.database import Database
from crew.jobs.store.group_read import MAX_BATCH, GroupRead
from tests.support.a_job import url_of
from tests.support.waiting import until


class Shelf:
    """Jobs that may change while they are read, and the reads of them."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(url_of(folder))
        self.reader = GroupRead(self.database, self.read_jobs)
        self.jobs = {name: Job(id=name, task="t", created=0.0) for name in ("a", "b", "c")}
        self.batches: list[set[str]] = []
        self.may_return = asyncio.Event()
        self.may_return.set()
        self.is_away = False

    async def __aenter__(self) -> "Shelf":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.may_return.set()
        await self.reader.drain()
        await self.database.close()

    async def read_jobs(self, connection: AsyncConnection, ids: Collection[str]) -> Sequence[Job]:
        self.batches.append(set(ids))
        found = [job for id, job in self.jobs.items() if id in ids]
        await self.may_return.wait()
        if self.is_away:
            raise OSError("the store is away")
        return found


@pytest.mark.gen_test
async def test_each_read_gets_its_own_job_or_none(tmp_path: Path) -> None:
    async with Shelf(tmp_path) as shelf:
        reads = [shelf.reader.get(id) for id in ("a", "b", "unknown", "a")]
        assert [job and job.id for job in await asyncio.gather(*reads)] == ["a", "b", None, "a"]
        assert shelf.batches == [{"a", "b", "unknown"}]


@pytest.mark.gen_test
async def test_a_read_during_a_select_gets_the_state_of_the_next_one(tmp_path: Path) -> None:
    async with Shelf(tmp_path) as shelf:
        shelf.may_return.clear()
        early = asyncio.ensure_future(shelf.reader.get("a"))
        await until(lambda: shelf.batches)
        shelf.jobs["a"] = msgspec.structs.replace(shelf.jobs["a"], version=2)
        late = [asyncio.ensure_future(shelf.reader.get("a")) for _ in range(3)]
        shelf.may_return.set()
        versions = [job.version for job in await asyncio.gather(early, *late) if job is not None]
        assert versions == [1, 2, 2, 2]
        assert shelf.batches == [{"a"}, {"a"}]


@pytest.mark.gen_test
async def test_no_select_is_larger_than_a_batch(tmp_path: Path) -> None:
    async with Shelf(tmp_path) as shelf:
        await asyncio.gather(*(shelf.reader.get(str(n)) for n in range(2 * MAX_BATCH + 1)))
        assert [len(batch) for batch in shelf.batches] == [MAX_BATCH, MAX_BATCH, 1]


@pytest.mark.gen_test
async def test_each_read_of_an_unavailable_store_fails_and_a_later_read_succeeds(
    tmp_path: Path,
) -> None:
    async with Shelf(tmp_path) as shelf:
        shelf.is_away = True
        errors = await asyncio.gather(*(shelf.reader.get(id) for id in "abc"), return_exceptions=True)
        assert [isinstance(error, ConnectionError) for error in errors] == [True] * 3
        assert len(set(map(id, errors))) == 3
        shelf.is_away = False
        assert await shelf.reader.get("a") == shelf.jobs["a"]


@pytest.mark.gen_test
async def test_a_canceled_read_does_not_affect_the_others(tmp_path: Path) -> None:
    async with Shelf(tmp_path) as shelf:
        shelf.may_return.clear()
        canceled, other = (asyncio.ensure_future(shelf.reader.get("a")) for _ in range(2))
        await until(lambda: shelf.batches)
        canceled.cancel()
        shelf.may_return.set()
        assert await other == shelf.jobs["a"]
        await asyncio.wait([canceled])
        assert canceled.cancelled()

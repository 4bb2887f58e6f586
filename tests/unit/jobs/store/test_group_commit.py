"""Concurrent writes share a transaction; a bad item does not affect the others."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import ConnectionError, CrewError
from crew.jobs.store.database import Database
from crew.jobs.store.group_commit import MAX_BATCH, GroupCommit
from tests.support.a_job import url_of

BAD = 13


class Numbers:
    """A table of numbers, and the batches in which they were written."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(url_of(folder))
        self.writer = GroupCommit(self.database)
        self.batches: list[int] = []
        self.is_away = False

    async def __aenter__(self) -> "Numbers":
        async with self.database.write() as connection:
            await connection.execute(text("create table numbers (n integer)"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.writer.drain()
        await self.database.close()

    async def add(self, connection: AsyncConnection, items: Sequence[int]) -> list[int]:
        """Write numbers; return their doubles."""
        self.batches.append(len(items))
        if self.is_away:
            raise ConnectionError("the store is away")
        for n in items:
            await connection.execute(text("insert into numbers values (:n)"), {"n": n})
            if n == BAD:
                raise CrewError(f"{n} cannot be written")
        return [2 * n for n in items]

    async def written(self) -> list[int]:
        """All numbers in the table."""
        async with self.database.read() as connection:
            return sorted((await connection.execute(text("select n from numbers"))).scalars())


@pytest.mark.gen_test
async def test_concurrent_writes_share_a_commit_and_each_gets_its_own_result(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        doubles = await asyncio.gather(*(numbers.writer.write(numbers.add, n) for n in range(10)))
        assert doubles == [2 * n for n in range(10)]
        assert numbers.batches == [10]


@pytest.mark.gen_test
async def test_writes_during_a_transaction_share_the_next(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        first = asyncio.ensure_future(numbers.writer.write(numbers.add, 1))
        while not numbers.batches:
            await asyncio.sleep(0)
        await asyncio.gather(first, *(numbers.writer.write(numbers.add, n) for n in (2, 3, 4)))
        assert numbers.batches == [1, 3]


@pytest.mark.gen_test
async def test_an_item_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        items = [1, BAD, 3]
        results = await asyncio.gather(*(numbers.writer.write(numbers.add, n) for n in items), return_exceptions=True)
        assert (results[0], results[2]) == (2, 6)
        assert isinstance(results[1], CrewError)
        assert await numbers.written() == [1, 3]


@pytest.mark.gen_test
async def test_an_item_that_cannot_be_written_is_found_in_a_few_transactions(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        items = range(100)
        results = await numbers.writer.write_each(numbers.add, items)
        assert [n for n in items if results[n] != 2 * n] == [BAD]
        assert isinstance(results[BAD], CrewError)
        assert await numbers.written() == [n for n in items if n != BAD]
        assert len(numbers.batches) <= 1 + 2 * 7, "100 are halved seven times"


@pytest.mark.gen_test
async def test_an_unavailable_store_fails_the_whole_batch_with_one_attempt(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        numbers.is_away = True
        results = await asyncio.gather(
            *(numbers.writer.write(numbers.add, n) for n in (1, 2, 3)), return_exceptions=True
        )
        assert [type(one) for one in results] == [ConnectionError] * 3
        assert len({id(one) for one in results}) == 3, "one error that all raise keeps the stack of each"
        assert numbers.batches == [3]
        numbers.is_away = False
        assert await numbers.writer.write(numbers.add, 4) == 8


@pytest.mark.gen_test
async def test_a_batch_is_bounded(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        await numbers.writer.write_all(numbers.add, range(MAX_BATCH + 100, 2 * MAX_BATCH + 101))
        assert numbers.batches == [MAX_BATCH, 1]


@pytest.mark.gen_test
async def test_a_canceled_write_does_not_affect_the_others(tmp_path: Path) -> None:
    async with Numbers(tmp_path) as numbers:
        impatient = asyncio.ensure_future(numbers.writer.write(numbers.add, 1))
        patient = asyncio.ensure_future(numbers.writer.write(numbers.add, 2))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == 4
        assert await numbers.written() == [1, 2]

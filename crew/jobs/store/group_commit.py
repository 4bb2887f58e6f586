"""Group commit: everything that is written during a transaction goes into the next transaction, together.

Each transaction costs one write to the disk, regardless of its size. So a busy store writes many records with each.
"""

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from crew.errors import ConnectionError
from crew.jobs.store.database import Database
from crew.jobs.store.errors import Conflict

TRIES: Final = 4  # of a transaction that conflicts with those of other gateways
MAX_BATCH: Final = 500  # items of one kind: bounds the time that one transaction takes

T = TypeVar("T")
R = TypeVar("R")
Step = Callable[[AsyncConnection, Sequence[T]], Awaitable[Sequence[R]]]

_Waiting = tuple[Any, "asyncio.Future[Any]"]


class GroupCommit:
    """Writes to `database`, with many callers in one transaction.

    A step is a coroutine function of a connection and some items; it returns a result for each item. After a
    transaction has failed, a step may be called again with fewer items.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Step[Any, Any], list[_Waiting]] = {}
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<GroupCommit: {sum(map(len, self._waiting.values()))} waiting>"

    async def write(self, step: Step[T, R], item: T) -> R:
        """The result of `step` for `item`, once it is committed; raises ConnectionError if it was not."""
        return await self._put(step, item)

    async def write_all(self, step: Step[T, R], items: Sequence[T]) -> list[R]:
        """As `write`, for several items. They may be written in different transactions."""
        return list(await asyncio.gather(*(self._put(step, item) for item in items)))

    async def write_each(self, step: Step[T, R], items: Sequence[T]) -> "list[R | BaseException]":
        """As `write_all`, but an item that was not written has the exception as its result."""
        return await asyncio.gather(*(self._put(step, item) for item in items), return_exceptions=True)

    async def drain(self) -> None:
        """Wait until all is written."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _put(self, step: Step[T, R], item: T) -> "asyncio.Future[R]":
        loop = asyncio.get_running_loop()
        written: asyncio.Future[R] = loop.create_future()
        self._waiting.setdefault(step, []).append((item, written))
        if self._task is None:
            self._task = loop.create_task(self._write(), name="job store writer")
        return written

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_batch(self._take())
        finally:
            self._task = None

    def _take(self) -> dict[Step[Any, Any], list[_Waiting]]:
        batch = {step: waiting[:MAX_BATCH] for step, waiting in self._waiting.items()}
        self._waiting = {step: rest for step, waiting in self._waiting.items() if (rest := waiting[MAX_BATCH:])}
        return batch

    async def _write_batch(self, batch: dict[Step[Any, Any], list[_Waiting]]) -> None:
        try:
            await self._commit_with_retries(batch)
        except ConnectionError as error:
            _fail(batch, error)
        except Exception as error:
            if sum(map(len, batch.values())) == 1:
                _fail(batch, error)
            else:  # one item cannot be written: halving finds it in a few steps, and the others are written
                for half in _halves(batch):
                    await self._write_batch(half)

    async def _commit_with_retries(self, batch: dict[Step[Any, Any], list[_Waiting]]) -> None:
        for _ in range(TRIES - 1):
            with contextlib.suppress(Conflict):
                return await self._commit(batch)
        return await self._commit(batch)

    async def _commit(self, batch: dict[Step[Any, Any], list[_Waiting]]) -> None:
        async def run(connection: AsyncConnection) -> list[Sequence[Any]]:
            return [await step(connection, [item for item, _ in waiting]) for step, waiting in batch.items()]

        results = await self._database.commit(run)
        for waiting, values in zip(batch.values(), results, strict=True):
            for (_, written), value in zip(waiting, values, strict=True):
                if not written.done():
                    written.set_result(value)


def _halves(batch: dict[Step[Any, Any], list[_Waiting]]) -> list[dict[Step[Any, Any], list[_Waiting]]]:
    items = [(step, one) for step, waiting in batch.items() for one in waiting]
    halves: list[dict[Step[Any, Any], list[_Waiting]]] = []
    for some in (items[: len(items) // 2], items[len(items) // 2 :]):
        halves.append({})
        for step, one in some:
            halves[-1].setdefault(step, []).append(one)
    return halves


def _fail(batch: dict[Step[Any, Any], list[_Waiting]], error: Exception) -> None:
    for waiting in batch.values():
        for _, written in waiting:
            if not written.done():
                written.set_exception(copy.copy(error))  # one shared error would keep the stacks of all who raise it

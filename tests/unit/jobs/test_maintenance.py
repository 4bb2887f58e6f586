"""The maintenance loop starts a round after each wake-up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from crew.jobs import JobStore
from crew.jobs.maintenance import loop
from crew.jobs.maintenance.loop import Maintenance
from crew.jobs.publisher import Publisher
from tests.support.waiting import until

A_DAY = 86_400.0


class SlowStore:
    """A store without jobs whose `claim` returns when the test lets it; also a publisher that can publish."""

    can_publish = True

    def __init__(self) -> None:
        self.claims = 0
        self.may_return = asyncio.Event()

    async def claim(self, *_: object, **__: object) -> list[object]:
        self.claims += 1
        await self.may_return.wait()
        return []

    async def overdue(self, *_: object) -> list[str]:
        return []

    async def purge(self, *_: object) -> int:
        return 0


@contextlib.asynccontextmanager
async def running(store: SlowStore) -> AsyncIterator[Maintenance]:
    async def nothing(*_: object) -> Any:
        return False

    one = Maintenance(
        cast(JobStore, store),
        cast(Publisher, store),
        apply=nothing,
        consuming_for=lambda: 0.0,
        is_behind=nothing,
    )
    one.start()
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture(autouse=True)
def _no_round_by_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "INTERVAL", A_DAY)


@pytest.mark.gen_test
async def test_a_wake_up_during_a_round_starts_another_round() -> None:
    store = SlowStore()
    async with running(store) as one:
        await until(lambda: store.claims == 1)
        one.wake()  # this round has claimed already: only another round finds newer jobs
        store.may_return.set()
        await until(lambda: store.claims == 2)


@pytest.mark.gen_test
async def test_several_wake_ups_before_a_round_start_one_round() -> None:
    store = SlowStore()
    store.may_return.set()
    async with running(store) as one:
        await until(lambda: store.claims == 1)
        for _ in range(3):
            await asyncio.sleep(0)
        one.wake()
        one.wake()
        await until(lambda: store.claims == 2)
        for _ in range(20):  # iterations of the event loop, in which a third round would begin
            await asyncio.sleep(0)
        assert store.claims == 2

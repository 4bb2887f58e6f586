"""The check of the job store for `/readyz`."""

import asyncio

import pytest

from crew.errors import ConnectionError
from crew.jobs.store.probe import StoreProbe


@pytest.mark.gen_test
async def test_a_store_is_an_obstacle_only_while_it_fails() -> None:
    async def succeed() -> None:
        pass

    async def fail() -> None:
        raise ConnectionError("the job store x cannot be used: gone", missing="store")

    assert await StoreProbe(succeed).obstacle() is None
    assert await StoreProbe(fail).obstacle() == "the job store x cannot be used: gone"


@pytest.mark.gen_test
async def test_a_store_that_hangs_is_checked_once_for_all_callers() -> None:
    checks = []

    async def hang() -> None:
        checks.append(True)
        await asyncio.Event().wait()

    hanging = StoreProbe(hang, timeout=0.05)
    obstacles = await asyncio.gather(*(hanging.obstacle() for _ in range(5)))
    assert set(obstacles) == {"the job store has not answered within 0.05 s"}
    assert len(checks) == 1
    hanging.close()

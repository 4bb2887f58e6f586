"""The check of the job store for `/readyz`."""

import asyncio

import pytest

from crew.errors import ConnectionError
from crew.jobs.store import probe as store_probe
from crew.jobs.store.probe import StoreProbe


@pytest.mark.gen_test
async def test_a_store_is_an_obstacle_only_while_it_does_not_answer() -> None:
    async def answer() -> None:
        pass

    async def fail() -> None:
        raise ConnectionError("the job store x cannot be used: gone", missing="store")

    assert await StoreProbe(answer).obstacle() is None
    assert await StoreProbe(fail).obstacle() == "the job store x cannot be used: gone"


@pytest.mark.gen_test
async def test_a_store_that_hangs_gets_one_check_for_all_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_probe, "ANSWERS_WITHIN", 0.05)
    asked = []

    async def hang() -> None:
        asked.append(True)
        await asyncio.Event().wait()

    hanging = StoreProbe(hang)
    obstacles = await asyncio.gather(*(hanging.obstacle() for _ in range(5)))
    assert set(obstacles) == {"the job store has not answered within 0.05 s"}
    assert len(asked) == 1
    hanging.close()

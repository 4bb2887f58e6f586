"""Whether the job store answers, for whoever asks."""

import asyncio

import pytest

from crew.errors import ConnectionError
from crew.jobs import store_probe
from crew.jobs.store_probe import StoreProbe


@pytest.mark.gen_test
async def test_a_store_that_answers_is_no_obstacle_and_one_that_does_not_is_named() -> None:
    async def answer() -> None:
        pass

    async def fail() -> None:
        raise ConnectionError("the job store x cannot be used: gone", missing="store")

    assert await StoreProbe(answer).obstacle() is None
    assert await StoreProbe(fail).obstacle() == "the job store x cannot be used: gone"


@pytest.mark.gen_test
async def test_a_store_that_hangs_is_asked_once_however_many_want_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_probe, "ANSWERS_WITHIN", 0.05)
    asked = []

    async def hang() -> None:
        asked.append(True)
        await asyncio.Event().wait()

    hanging = StoreProbe(hang)
    told = await asyncio.gather(*(hanging.obstacle() for _ in range(5)))
    assert set(told) == {"the job store has not answered within 0.05 s"}
    assert len(asked) == 1
    hanging.close()

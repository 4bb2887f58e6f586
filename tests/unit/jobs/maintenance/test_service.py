"""A maintenance service runs its step at intervals, after each wake-up, and also after an error."""

import asyncio
import logging

import pytest

from crew.errors import ConnectionError, CrewError
from crew.jobs.maintenance.service import Service
from tests.support.waiting import until

A_DAY = 86_400.0


class Counting(Service):
    """Counts its steps; a step raises `error`, and ends when the test lets it."""

    def __init__(self, *, interval: float = A_DAY, error: Exception | None = None) -> None:
        super().__init__(interval=interval)
        self.steps = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.error = error

    async def step(self) -> None:
        """Count, and wait."""
        self.steps += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


async def idle() -> None:
    """Iterations of the event loop in which another step would begin."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_a_wake_up_during_a_step_starts_another_step() -> None:
    service = Counting()
    service.may_end.clear()
    service.start()
    await until(lambda: service.steps == 1)
    service.wake()  # this step has looked already: only another step finds newer jobs
    service.may_end.set()
    await until(lambda: service.steps == 2)
    await service.stop()


@pytest.mark.gen_test
async def test_several_wake_ups_before_a_step_start_one_step() -> None:
    service = Counting()
    service.start()
    await until(lambda: service.steps == 1)
    await idle()
    service.wake()
    service.wake()
    await until(lambda: service.steps == 2)
    await idle()
    assert service.steps == 2
    await service.stop()


@pytest.mark.gen_test
async def test_a_service_runs_a_step_per_interval_until_it_is_stopped() -> None:
    service = Counting(interval=0.001)
    assert repr(service) == "<Counting: not running>"
    service.start()
    service.start()
    assert repr(service) == "<Counting: running>"
    await until(lambda: service.steps > 3)
    await service.stop()
    await service.stop()
    steps = service.steps
    await asyncio.sleep(0.02)
    assert service.steps == steps
    service.start()
    await until(lambda: service.steps > steps)
    await service.stop()


@pytest.mark.gen_test
async def test_a_step_that_waits_is_stopped_at_once() -> None:
    service = Counting()
    service.may_end.clear()
    service.start()
    await until(lambda: service.steps == 1)
    async with asyncio.timeout(5):
        await service.stop()


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ConnectionError("the job store is unavailable"), logging.DEBUG),  # the store logs its outage
        (CrewError("no such table"), logging.WARNING),
        (ValueError("an unexpected error"), logging.ERROR),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.gen_test
async def test_a_step_that_fails_is_logged_and_repeated(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "crew.jobs.maintenance.service")
    service = Counting(interval=0.001, error=error)
    service.start()
    await until(lambda: service.steps > 1)
    await service.stop()
    record = next(record for record in caplog.records if "job maintenance failed" in record.getMessage())
    assert record.levelno == level
    assert "retrying in 0.001 s: step=counting" in record.getMessage()

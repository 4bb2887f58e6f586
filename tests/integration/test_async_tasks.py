"""`async def` tasks: hundreds run concurrently, interrupts cancel them, and heartbeats continue."""

import asyncio
import time
from pathlib import Path

import pytest

import crew
from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.waiting import until

SCRIPT = "nesting.py"


@pytest.mark.gen_test
async def test_hundreds_of_coroutines_run_in_one_process(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker("--concurrency", "300", script=SCRIPT)
    async with Client(broker_url) as client:
        began = time.monotonic()
        pids = await asyncio.gather(*(client.call(prefix + "nap", 1.0) for _ in range(300)))
        assert time.monotonic() - began < 5  # 300 s if they ran one after another
    assert len(set(pids)) == 1


@pytest.mark.gen_test
async def test_no_more_coroutines_run_concurrently_than_the_option_allows(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker("--concurrency", "2", script=SCRIPT)
    async with Client(broker_url) as client:
        began = time.monotonic()
        await asyncio.gather(*(client.call(prefix + "nap", 0.3) for _ in range(6)))
        assert time.monotonic() - began >= 0.9


@pytest.mark.gen_test
async def test_plain_functions_run_while_a_coroutine_blocks_the_event_loop(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker(script=SCRIPT)
    async with Client(broker_url) as client:
        blocking = client.call(prefix + "block", 1.3)
        await until(lambda: blocking.has_started)
        began = time.monotonic()
        assert len(await client.call(prefix + "inner", {})) == 1
        assert time.monotonic() - began < 1
        assert not blocking.done()
        assert await blocking == 1.3
    assert "Traceback" not in worker.output


@pytest.mark.gen_test
async def test_a_coroutine_that_ignores_its_cancellation_does_not_block_others(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--grace", "0.5", "--concurrency", "1", script=SCRIPT)
    async with Client(broker_url) as client:
        pid = await client.call(prefix + "nap", 0)
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "stubborn nap", timeout=0.3)
        assert await client.call(prefix + "nap", 0, expiration=5) == pid
        assert worker.output.count("STUBBORN") >= 1
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "stubborn nap", timeout=0.3)
        # Two such coroutines are too many for one slot: the process was replaced.
        assert await client.call(prefix + "nap", 0, expiration=8) != pid


@pytest.mark.gen_test
async def test_a_stopped_worker_finishes_its_coroutines(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker(script=SCRIPT)
    async with Client(broker_url) as client:
        calls = [client.call(prefix + "nap", 0.7) for _ in range(20)]
        await until(lambda: all(call.has_started for call in calls))
        stopped = asyncio.get_running_loop().run_in_executor(None, worker.stop)
        assert len(set(await asyncio.gather(*calls))) == 1
        assert await stopped == 0


@pytest.mark.gen_test
async def test_a_coroutine_that_exceeds_the_drain_time_runs_on_another_worker(
    broker_url: str, prefix: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    first = start_worker("--drain", "0.2", script=SCRIPT)
    wake = tmp_path / "wake"
    async with Client(broker_url) as client:
        call = client.call(prefix + "nap until", str(wake))
        await until(lambda: call.has_started)
        start_worker(script=SCRIPT)
        await asyncio.get_running_loop().run_in_executor(None, first.stop)
        assert "NAP INTERRUPTED drain" in first.output
        wake.touch()
        assert await call > 0

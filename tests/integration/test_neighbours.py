"""A task that hangs or kills its process only delays the other calls of that process."""

import asyncio
import re
import time

import pytest

import crew
from crew import Client
from tests.support.interrupt_table import sight
from tests.support.interrupt_table.row import MAIN, THREADS
from tests.support.interrupt_table.trial import GRACE, start_bench
from tests.support.processes import Processes
from tests.support.waiting import until

pytestmark = pytest.mark.chaos

FROZEN = "mutex in C, GIL held"


@pytest.mark.gen_test
async def test_calls_beside_a_frozen_task_run_again_and_the_frozen_one_does_not(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    bench = start_bench(processes, THREADS, prefix=prefix)
    bench.process.says("serving")
    async with Client(broker_url) as client:
        other = client.call(prefix + "work", 0.8)
        await until(lambda: f"{sight.STARTED} {other.id}" in bench.process.output)
        frozen = client.call(prefix + "hang", FROZEN, timeout=0.3, expiration=30)
        with pytest.raises(crew.TimeoutError, match="its worker process was killed"):
            await frozen
        worked = await other
        assert worked["attempt"] == 1  # the crash does not count as its own
        assert bench.process.output.count(f"{sight.STARTED} {other.id}") == 2
        assert bench.process.output.count(f"{sight.STARTED} {frozen.id}") == 1
        assert re.search(r'hangs\.py", line \d+ in mutex', bench.process.output)  # the stacks of all threads


@pytest.mark.gen_test
async def test_a_process_with_too_many_stuck_threads_finishes_its_calls_and_is_replaced(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    bench = start_bench(processes, THREADS, "--threads", "3", "--zombies", "1", "--drain", "20", prefix=prefix)
    bench.process.says("serving")
    async with Client(broker_url) as client:
        rest = client.call(prefix + "work", 2.0)
        hanging = [client.call(prefix + "hang", "Event.wait", timeout=0.3) for _ in range(2)]
        results = await asyncio.gather(*hanging, return_exceptions=True)
        assert [type(result) for result in results] == [crew.TimeoutError] * 2
        await until(
            lambda: "replacing worker process: it runs a task that cannot be interrupted" in bench.process.output
        )
        worked = await rest
        assert worked["attempt"] == 1
        assert bench.process.output.count(f"{sight.STARTED} {rest.id}") == 1
        assert await client.call(prefix + "who") != worked["pid"]


@pytest.mark.gen_test
@pytest.mark.parametrize("executor", [MAIN, THREADS])
async def test_calls_of_a_killed_process_run_again_at_once_though_its_children_live_on(
    broker_url: str, prefix: str, processes: Processes, executor: str
) -> None:
    """The children have inherited the connection and keep it open."""
    bench = start_bench(processes, executor, prefix=prefix)
    bench.process.says("serving")
    async with Client(broker_url) as client:
        began = time.monotonic()
        assert await client.call(prefix + "fork_and_die") == {"attempt": 2}
        assert time.monotonic() - began < GRACE + 2
    await until(lambda: len(processes.alive()) == 2)  # a supervisor and its process


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("executor", "row"), [(MAIN, "time.sleep"), (THREADS, "Event.wait"), (THREADS, "endless loop")]
)
async def test_a_timeout_error_has_the_stack_of_the_task_if_the_worker_logs_debug(
    broker_url: str, prefix: str, processes: Processes, executor: str, row: str
) -> None:
    bench = start_bench(processes, executor, "--logging", "debug", prefix=prefix)
    bench.process.says("serving")
    async with Client(broker_url) as client:
        with pytest.raises(crew.TimeoutError) as caught:
            await client.call(prefix + "hang", row, timeout=0.3)
        assert re.search(r'hangs\.py", line \d+, in ', caught.value.traceback)


@pytest.mark.gen_test
async def test_a_task_is_interrupted_though_an_earlier_task_blocked_the_signals(
    broker_url: str, prefix: str, processes: Processes
) -> None:
    bench = start_bench(processes, MAIN, prefix=prefix)
    bench.process.says("serving")
    async with Client(broker_url) as client:
        pid = await client.call(prefix + "who")
        await client.call(prefix + "block_signals")
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "hang", "time.sleep", expiration=0.5)
        assert await client.call(prefix + "who") == pid

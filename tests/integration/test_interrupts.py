"""A timeout interrupts the task, whatever it does, and nothing but that task."""

import re
import time

import pytest

import crew
from crew import Client
from tests.integration.tasks import HANGS
from tests.processes import Process
from tests.waiting import until

WITHIN = 50.0  # milliseconds after the deadline: the promise
ANSWERED = 0.5  # seconds after it


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", HANGS)
async def test_a_task_that_hangs_is_interrupted_within_50_ms_of_its_deadline(
    broker_url: str, prefix: str, shared_worker: Process, kind: str
) -> None:
    async with Client(broker_url) as client:
        pid = (await client.call(prefix + "who"))["pid"]
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "hang", kind, expiration=0.6)
        assert time.monotonic() - began < 0.6 + ANSWERED
        await until(lambda: f"FINALLY [{kind}]" in shared_worker.output)
        match = re.search(rf"INTERRUPTED \[{re.escape(kind)}\] timeout (-?[\d.]+)", shared_worker.output)
        assert match, shared_worker.output
        assert float(match[1]) < WITHIN
        assert (await client.call(prefix + "who"))["pid"] == pid  # the same process serves the next call


@pytest.mark.gen_test
async def test_a_task_may_clean_up_longer_than_its_caller_waits(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "swallow", 0.8, timeout=0.3)
        assert time.monotonic() - began < 0.3 + ANSWERED
        assert await client.call(prefix + "echo", "next") == "next"


@pytest.mark.gen_test
async def test_a_task_can_look_whether_it_should_end(broker_url: str, prefix: str, shared_worker: Process) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "cooperative", timeout=0.2)
        assert await client.call(prefix + "echo", "next") == "next"

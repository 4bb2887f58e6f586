"""What a task may do after its deadline."""

import time

import pytest

import crew
from crew import Client
from tests.support.processes import Process

SETTLED_WITHIN = 0.5  # seconds after the deadline, as guaranteed


@pytest.mark.gen_test
async def test_a_task_may_clean_up_longer_than_its_caller_waits(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "swallow", 0.8, timeout=0.3)
        assert time.monotonic() - began < 0.3 + SETTLED_WITHIN
        assert await client.call(prefix + "echo", "next") == "next"


@pytest.mark.gen_test
async def test_a_task_can_check_whether_it_should_end(broker_url: str, prefix: str, shared_worker: Process) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "cooperative", timeout=0.2)
        assert await client.call(prefix + "echo", "next") == "next"

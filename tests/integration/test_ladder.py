"""Tasks that keep running after their interrupt, and tasks that end just as they are interrupted."""

import asyncio
import logging
import os
import re
import time
from typing import Any

import pytest

import crew
from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.waiting import until

SETTLED_WITHIN = 0.5  # seconds after the deadline, as guaranteed
EDGE_STEP = 1.005


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("threads", "grace"), [(("1",), "1.3"), (("2", "--zombies", "0"), "0.5")], ids=["main thread", "threads"]
)
async def test_the_process_of_a_task_that_ignores_interrupts_is_replaced_after_grace(
    broker_url: str, prefix: str, start_worker: StartWorker, threads: tuple[str, ...], grace: str
) -> None:
    worker = start_worker("--grace", grace, "--threads", *threads)
    async with Client(broker_url) as client:
        pid = (await client.call(prefix + "who"))["pid"]
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "stubborn", timeout=0.3)
        assert time.monotonic() - began < 0.3 + SETTLED_WITHIN
        if threads == ("1",):
            assert (await client.call(prefix + "who", expiration=6))["pid"] != pid
            assert worker.output.count("STUBBORN") >= 2  # it was interrupted again before
        await until(lambda: "replacing worker process: it runs a task that cannot be interrupted" in worker.output)
    await until(lambda: not _is_alive(pid))


@pytest.mark.gen_test
async def test_a_thread_that_runs_python_code_is_interrupted_and_other_threads_are_not(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker("--threads", "4")
    async with Client(broker_url) as client:
        neighbours = [client.call(prefix + "note", {"name": f"n{n}", "seconds": 0.8}) for n in range(3)]
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "hang", "endless loop", timeout=0.3)
        assert [(await call)["name"] for call in neighbours] == ["n0", "n1", "n2"]
    await until(lambda: "FINALLY [endless loop]" in worker.output)


@pytest.mark.chaos
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.gen_test(timeout=900)
@pytest.mark.parametrize("flags", [("--processes", "2"), ("--threads", "8")], ids=["main thread", "threads"])
async def test_an_execution_that_ends_at_its_timeout_has_one_reply_and_no_stray_interrupt(
    broker_url: str,
    prefix: str,
    start_worker: StartWorker,
    caplog: pytest.LogCaptureFixture,
    flags: tuple[str, ...],
    soak: int,
) -> None:
    worker = start_worker(*flags, count=2 if "--processes" in flags else 1)
    timeout, total = 0.002, 2_000 * soak
    share = 1.0  # of the timeout, until a task ends; adapts so that about half of the tasks time out
    results: dict[str, list[Any]] = {}
    caplog.set_level(logging.DEBUG, logger="crew.client.calling.calls")
    async with Client(broker_url) as client:
        slots = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            nonlocal share
            id = f"{prefix}{number}"
            async with slots:
                seconds = timeout * share * (0.97 + 0.06 * (number % 101) / 100)
                call = client.call(
                    prefix + "spin",
                    {"seconds": seconds},
                    timeout=timeout,
                    expiration=60,
                    id=id,
                    callback=lambda value, headers: results.setdefault(id, []).append(value),
                )
                try:
                    await call
                    share = min(share * EDGE_STEP, 1.5)
                except crew.TimeoutError:
                    share = max(share / EDGE_STEP, 0.1)

        await asyncio.gather(*(one(number) for number in range(total)))
        assert await client.call(prefix + "echo", "alive") == "alive"
    interrupted = set(re.findall(r"^INTERRUPTED (\S+)", worker.output, re.MULTILINE))
    returned = {id for id, values in results.items() if values == [id]}
    timed_out = {id for id, values in results.items() if isinstance(values[0], crew.TimeoutError)}
    assert len(results) == total
    assert all(len(values) == 1 for values in results.values())
    assert len(returned) + len(timed_out) == total
    assert returned, "all tasks timed out: the test proves nothing"
    assert timed_out, "no task timed out: the test proves nothing"
    assert not returned & interrupted
    assert "STRAY" not in worker.output
    assert "second reply" not in caplog.text
    assert worker.output.count("serving") == (2 if "--processes" in flags else 1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""Abandoned calls are stopped: cancel of queued, waiting and running calls."""

import asyncio
import contextlib
import os
import re
import signal
import time

import pytest

import crew
from crew import Client
from crew.client import blocking
from tests.integration.conftest import StartWorker
from tests.support.processes import Process
from tests.support.waiting import eventually, until

STOPPED = 1.0  # seconds from the cancel to the interrupt: the promise


@pytest.mark.gen_test
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_a_running_task_sees_systemexit_with_the_reason_canceled(
    broker_url: str, prefix: str, start_worker: StartWorker, flags: tuple[str, ...]
) -> None:
    worker = start_worker(*flags)
    async with Client(broker_url) as client:
        call = client.call(prefix + "hang", "endless loop")
        await until(lambda: call.has_started)
        canceled = time.monotonic()
        assert call.cancel()
        with pytest.raises(crew.Canceled):
            await call
        assert time.monotonic() - canceled < STOPPED
        await until(lambda: "FINALLY [endless loop]" in worker.output, timeout=STOPPED)
        assert "INTERRUPTED [endless loop] canceled" in worker.output
        assert await client.call(prefix + "echo", "next") == "next"


@pytest.mark.gen_test
async def test_a_task_that_never_releases_the_gil_is_canceled(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        call = client.call(prefix + "hang", "regex")
        await until(lambda: call.has_started)
        call.cancel()
        await until(lambda: "INTERRUPTED [regex] canceled" in worker.output, timeout=STOPPED)


@pytest.mark.gen_test
async def test_a_caller_canceled_by_asyncio_gets_cancelederror_and_the_task_is_stopped(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.5):
                await client.call(prefix + "hang", "time.sleep")
        assert not isinstance(caught.value, crew.TimeoutError)
        await until(lambda: "INTERRUPTED [time.sleep] canceled" in worker.output, timeout=STOPPED)

        waiting = asyncio.ensure_future(_wait(client, prefix + "hang", "Queue.get"))
        await until(lambda: len(client._calls) == 1 and next(iter(client._calls._pending)).has_started)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: "INTERRUPTED [Queue.get] canceled" in worker.output, timeout=STOPPED)


@pytest.mark.gen_test
async def test_a_waiting_call_that_is_canceled_does_not_start(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        busy = client.call(prefix + "note", {"name": "busy", "seconds": 0.6})
        waiting = [client.call(prefix + "note", {"name": f"w{n}"}) for n in range(20)]
        await until(lambda: busy.has_started)
        for call in waiting[::2]:
            call.cancel()
        await busy
        for call in waiting[1::2]:
            await call
        assert await client.call(prefix + "echo", "all done") == "all done"
    assert re.findall(r"STARTED w(\d+)", worker.output) == [str(n) for n in range(1, 20, 2)]


@pytest.mark.gen_test
async def test_a_canceled_call_does_not_run_in_workers_that_start_later(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """They have missed the cancel; they announce the start, and the client repeats the cancel."""
    first = start_worker()
    async with Client(broker_url) as client:
        await client.call(prefix + "echo", "the queue exists")
        first.stop()
        call = client.call(prefix + "hang", "time.sleep", expiration=30)
        await until(lambda: call.is_published)
        await asyncio.sleep(0)
        call.cancel()
        late = start_worker()
        await until(lambda: "INTERRUPTED [time.sleep] canceled" in late.output, timeout=STOPPED + 5)
        assert await client.call(prefix + "echo", "next") == "next"


@pytest.mark.gen_test
async def test_a_cancel_at_the_same_time_as_the_result_has_exactly_one_outcome(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker("--processes", "2", count=2)
    async with Client(broker_url) as client:
        outcomes: dict[str, list[object]] = {}
        patience = 0.005  # seconds; adapted towards the moment at which the result arrives

        for number in range(250):
            id = f"{prefix}{number}"
            call = client.call(
                prefix + "sleep",
                0.001,
                id=id,
                callback=lambda value, headers, id=id: outcomes.setdefault(id, []).append(value),  # type: ignore[misc]
            )
            await asyncio.sleep(patience)
            patience *= 1.1 if call.cancel() else 0.9
            with contextlib.suppress(crew.Canceled):
                assert await call == 0.001
        assert len(client._calls) == 0
        assert await client.call(prefix + "echo", "alive") == "alive"
    assert len(outcomes) == 250
    assert all(len(seen) == 1 for seen in outcomes.values())
    kinds = {type(seen[0]) for seen in outcomes.values()}
    assert kinds == {float, crew.Canceled}, "always the same outcome: the test shows nothing"


@pytest.mark.gen_test
async def test_closing_a_client_cancels_its_pending_calls(broker_url: str, prefix: str, shared_worker: Process) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        call = client.call(prefix + "hang", "time.sleep")
        await until(lambda: call.has_started)
    await until(lambda: "INTERRUPTED [time.sleep] canceled" in worker.output, timeout=STOPPED)
    with pytest.raises(crew.ConnectionError):
        await call


@pytest.mark.gen_test
async def test_a_shielded_section_is_finished_and_the_caller_does_not_wait_for_it(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError):
            await client.call(prefix + "shielded", 0.8, timeout=0.3)
        assert time.monotonic() - began < 0.8
        await until(lambda: "AFTER THE SHIELD timeout" in worker.output)
    assert "COMMITTED" in worker.output


@pytest.mark.gen_test
async def test_a_cancel_does_not_acknowledge_other_deliveries(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """It arrives over the channel of the tasks: a running call must stay unacknowledged."""
    worker = start_worker("--threads", "2")
    async with Client(broker_url) as client:
        pid = (await client.call(prefix + "who"))["pid"]
        running = client.call(prefix + "note", {"name": "innocent", "seconds": 1.0})
        victim = client.call(prefix + "hang", "endless loop")
        await until(lambda: running.has_started and victim.has_started)
        victim.cancel()
        await until(lambda: "FINALLY [endless loop]" in worker.output)
        os.kill(pid, signal.SIGKILL)
        assert (await running)["pid"] != pid
    assert worker.output.count("STARTED innocent") == 2


def test_a_blocking_client_can_cancel(broker_url: str, prefix: str, shared_worker: Process) -> None:
    worker = shared_worker.from_now()
    with blocking.Client(broker_url) as client:
        call = client.call(prefix + "note", {"name": "long", "seconds": 30})
        eventually(lambda: "STARTED long" in worker.output)
        assert call.cancel()
        with pytest.raises(crew.Canceled):
            call.result()
        assert client.call(prefix + "echo", "next").result(5) == "next"


async def _wait(client: Client, task: str, data: object) -> object:
    return await client.call(task, data)


@pytest.mark.gen_test
async def test_an_id_may_be_used_again_once_its_call_has_ended(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """Cancels and replies of the first call do not affect the next one."""
    start_worker()
    async with Client(broker_url) as client:
        call = client.call(prefix + "sleep", 30, id="nightly")
        await until(lambda: call.has_started)
        call.cancel()
        assert await client.call(prefix + "sleep", 0.3, id="nightly") == 0.3

        busy = client.call(prefix + "sleep", 1)
        await until(lambda: busy.has_started)
        with pytest.raises(crew.ExpirationError):
            await client.call(prefix + "echo", 1, id="nightly", expiration=0.1)
        await busy
        assert await client.call(prefix + "echo", 2, id="nightly") == 2

"""Canceled calls are stopped, whether they are queued, waiting in a worker, or running."""

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

STOPPED = 1.0  # seconds from the cancel to the interrupt, as documented


@pytest.mark.gen_test
@pytest.mark.parametrize("flags", [(), ("--threads", "2")], ids=["main thread", "threads"])
async def test_a_canceled_task_is_interrupted_with_the_reason_canceled(
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
async def test_a_task_that_never_releases_the_gil_can_be_canceled(
    broker_url: str, prefix: str, shared_worker: Process
) -> None:
    worker = shared_worker.from_now()
    async with Client(broker_url) as client:
        call = client.call(prefix + "hang", "regex")
        await until(lambda: call.has_started)
        call.cancel()
        await until(lambda: "INTERRUPTED [regex] canceled" in worker.output, timeout=STOPPED)


@pytest.mark.gen_test
async def test_canceling_the_awaiting_coroutine_interrupts_the_task(
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
async def test_a_queued_call_that_is_canceled_does_not_start(
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
async def test_a_worker_that_starts_after_the_cancel_interrupts_the_canceled_call(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """The worker missed the cancel. It reports the start of the call, and the client repeats the cancel.

    It has one slot, and the task would hang for longer than the next call waits. The repeated cancel may arrive before
    the task has begun: then it never begins.
    """
    first = start_worker()
    async with Client(broker_url) as client:
        await client.call(prefix + "echo", "the queue exists")
        first.stop()
        call = client.call(prefix + "hang", "time.sleep", expiration=30)
        await until(lambda: call.is_published)
        await asyncio.sleep(0)
        call.cancel()
        await client.publish(prefix + "news", "the broker has the cancel too once it has confirmed this")
        await asyncio.to_thread(start_worker)
        assert await client.call(prefix + "echo", "next", expiration=STOPPED + 5) == "next"


@pytest.mark.gen_test
async def test_a_call_that_is_canceled_while_its_result_arrives_is_settled_once(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker("--processes", "2", count=2)
    async with Client(broker_url) as client:
        results: dict[str, list[object]] = {}
        delay = 0.005  # seconds; adapted until the cancel and the result coincide

        for number in range(250):
            id = f"{prefix}{number}"
            call = client.call(
                prefix + "sleep",
                0.001,
                id=id,
                callback=lambda value, headers, id=id: results.setdefault(id, []).append(value),  # type: ignore[misc]
            )
            await asyncio.sleep(delay)
            delay *= 1.1 if call.cancel() else 0.9
            with contextlib.suppress(crew.Canceled):
                assert await call == 0.001
        assert len(client._calls) == 0
        assert await client.call(prefix + "echo", "alive") == "alive"
    assert len(results) == 250
    assert all(len(values) == 1 for values in results.values())
    kinds = {type(values[0]) for values in results.values()}
    assert kinds == {float, crew.Canceled}, "each call ended the same way: the test proves nothing"


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
async def test_a_shielded_section_finishes_and_its_caller_does_not_wait_for_it(
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
    """The cancel arrives over the channel of the deliveries. Another running call must stay unacknowledged."""
    worker = start_worker("--threads", "2")
    async with Client(broker_url) as client:
        pid = (await client.call(prefix + "who"))["pid"]
        running = client.call(prefix + "note", {"name": "other", "seconds": 1.0})
        canceled = client.call(prefix + "hang", "endless loop")
        await until(lambda: running.has_started and canceled.has_started)
        canceled.cancel()
        await until(lambda: "FINALLY [endless loop]" in worker.output)
        os.kill(pid, signal.SIGKILL)
        assert (await running)["pid"] != pid
    assert worker.output.count("STARTED other") == 2


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
async def test_an_id_can_be_reused_after_its_call_has_ended(
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

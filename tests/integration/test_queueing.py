"""Priority, prefetch and expiration of queued calls."""

import asyncio
import os
import re
import signal
import time

import pytest

import crew
from crew import Client
from tests.integration.conftest import StartWorker
from tests.support.waiting import until


@pytest.mark.gen_test
async def test_a_call_of_high_priority_overtakes_all_waiting_calls_but_one(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        slow = [client.call(prefix + "note", {"name": f"slow{n}", "seconds": 0.03}) for n in range(51)]
        await until(lambda: "STARTED slow0" in worker.output)
        before = worker.output.count("STARTED")
        urgent = await client.call(prefix + "note", {"name": "urgent"}, priority=255)
        started = [line.split()[1] for line in worker.output.splitlines() if line.startswith("STARTED")]
        assert urgent["name"] == "urgent"
        assert started.index("urgent") <= before + 1
        assert len(started) < 10
        assert len([await call for call in slow]) == 51


@pytest.mark.gen_test(timeout=60)
async def test_a_busy_worker_does_not_hold_calls_that_another_could_run(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    busy = start_worker(script="ten.py")
    async with Client(broker_url) as client:
        long = client.call(prefix + "0", 20)
        await until(lambda: "RAN" in busy.output)
        first = [client.call(prefix + f"{1 + n % 9}", 0) for n in range(10)]  # only the busy worker consumes now
        await asyncio.sleep(0.05)
        start_worker(script="ten.py")
        began = time.monotonic()
        calls = first + [client.call(prefix + f"{1 + n % 9}", 0) for n in range(10)]
        pids = {await call for call in calls}
        assert time.monotonic() - began < 5
        assert not long.done()
        long.cancel()
    (busy_pid,) = re.findall(r"RAN (\d+)", busy.output)
    assert int(busy_pid) not in pids


@pytest.mark.gen_test(timeout=60)
async def test_a_killed_worker_loses_no_buffered_call(broker_url: str, prefix: str, start_worker: StartWorker) -> None:
    first = start_worker()
    async with Client(broker_url) as client:
        pid = (await client.call(prefix + "who"))["pid"]
        for _ in range(30):  # short calls, so that it fetches ahead
            await client.call(prefix + "note", {"name": "short"})
        calls = [client.call(prefix + "note", {"name": f"buffered{n}", "seconds": 0.02}) for n in range(40)]
        await until(lambda: "STARTED buffered3" in first.output)
        os.kill(pid, signal.SIGKILL)
        names = [(await call)["name"] for call in calls]
    assert names == [f"buffered{n}" for n in range(40)]


@pytest.mark.gen_test(timeout=60)
async def test_a_call_behind_longer_ones_expires_on_time_and_never_runs(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    worker = start_worker()
    async with Client(broker_url) as client:
        long = [client.call(prefix + "note", {"name": f"long{n}", "seconds": 2 if n == 0 else 0}) for n in range(3)]
        await until(lambda: "STARTED long0" in worker.output)
        began = time.monotonic()
        with pytest.raises(crew.ExpirationError):
            await client.call(prefix + "note", {"name": "late"}, expiration=0.6)
        assert 0.6 <= time.monotonic() - began <= 1.1
        assert [(await call)["name"] for call in long] == ["long0", "long1", "long2"]
        assert (await client.call(prefix + "note", {"name": "after"}))["name"] == "after"
    assert "STARTED late" not in worker.output


@pytest.mark.gen_test(timeout=60)
async def test_three_clients_get_only_their_own_replies_and_dead_letters(
    broker_url: str, prefix: str, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    start_worker().stop()  # so that the queues exist without a consumer
    async with Client(broker_url, name="one") as one, Client(broker_url) as two, Client(broker_url) as three:
        clients = [one, two, three]
        expired = [clients[n % 3].call(prefix + "note", {"name": "x"}, expiration=0.3) for n in range(150)]
        results = await asyncio.gather(*(_value_or_error(call) for call in expired))
        assert {type(result) for result in results} == {crew.ExpirationError}
        start_worker()
        values = await asyncio.gather(*(clients[n % 3].call(prefix + "echo", n) for n in range(150)))
        assert values == list(range(150))
    assert "dropped" not in caplog.text


@pytest.mark.gen_test
async def test_a_dead_letter_fails_its_own_call_before_the_deadline(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    """The messages are dead-lettered by rejecting them; each client gets its own."""
    start_worker().stop()
    async with Client(broker_url) as one, Client(broker_url) as two:
        mine, theirs = one.call(prefix + "echo", 1), two.call(prefix + "echo", 2)
        await _reject_all(broker_url, prefix + "echo", count=2)
        with pytest.raises(crew.TaskError, match=mine.id):
            await mine
        with pytest.raises(crew.TaskError, match=theirs.id):
            await theirs


async def _value_or_error(call: object) -> object:
    try:
        return await call  # type: ignore[misc]  # a PendingCall
    except crew.TaskError as error:
        return error


async def _reject_all(url: str, task: str, *, count: int) -> None:
    import pika

    def reject() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            for method, _, _ in channel.consume(f"crew.tasks.{task}"):
                channel.basic_reject(method.delivery_tag, requeue=False)
                if method.delivery_tag == count:
                    break

    await asyncio.to_thread(reject)

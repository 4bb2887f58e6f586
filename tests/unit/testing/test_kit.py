"""Client, worker and gateway of a test: the real ones, with the in-memory broker and a clock that jumps."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

import crew
from crew.testing import Hang, Kit
from crew.testing.clock import VirtualClock
from crew.worker import Task, context

events: list[Any] = []


@Task("kit.double")
def double(req: int) -> int:
    return 2 * req


@Task("kit.sleep", timeout=60)
def sleep(req: float) -> str:
    try:
        time.sleep(req)
    finally:
        events.append("cleaned up")
    return "slept"


@Task("kit.sleep_async", timeout=60)
async def sleep_async(req: float) -> str:
    await asyncio.sleep(req)
    return "slept"


@Task("kit.poll")
def poll(_: object) -> str:
    return "canceled" if context.canceled.wait(300) else "not canceled"


@Task("kit.nested")
def nested(req: int) -> Any:
    return context.call("kit.double", req).result()


@Task("kit.publish")
def publish(req: str) -> None:
    context.pubsub.publish("kit.topic", req)


@Task("kit.flaky", retries=2, backoff=("1h", "1h"))
def flaky(_: object) -> int:
    events.append(time.time())
    if context.attempt < 3:
        raise ValueError("not yet")
    return context.attempt


@Task("kit.settings")
def settings(_: object) -> Any:
    return context.settings.value


@pytest.fixture
def kit() -> Iterator[Kit]:
    events.clear()
    with Kit(clock=VirtualClock(hang_after=100)) as made:  # the machine may be busy
        yield made


def passed(kit: Kit, since: float) -> float:
    """Seconds on the clock of the kit."""
    return kit.clock.time() - since


def test_a_call_returns_and_takes_no_time(kit: Kit) -> None:
    kit.worker(double)
    client, began = kit.blocking_client(), kit.clock.time()
    assert client.call("kit.double", 21).result() == 42
    assert passed(kit, began) < 1


@pytest.mark.parametrize("task", ["kit.sleep", "kit.sleep_async"])
def test_a_task_may_sleep_within_its_timeout(kit: Kit, task: str) -> None:
    kit.worker(task)
    began = kit.clock.time()
    assert kit.blocking_client().call(task, 50).result() == "slept"
    assert 50 <= passed(kit, began) < 51


@pytest.mark.parametrize("task", ["kit.sleep", "kit.sleep_async"])
def test_a_task_that_takes_too_long_is_interrupted_at_its_timeout(kit: Kit, task: str) -> None:
    kit.worker(task)
    began = kit.clock.time()
    with pytest.raises(crew.TimeoutError):
        kit.blocking_client().call(task, 3600, expiration=600).result()
    assert 60 <= passed(kit, began) < 61


def test_an_interrupted_task_cleans_up(kit: Kit) -> None:
    worker = kit.worker(sleep)
    with pytest.raises(crew.TimeoutError):
        kit.blocking_client().call("kit.sleep", 3600, expiration=600).result()
    worker.stop()
    assert events == ["cleaned up"]


def test_a_retry_after_an_hour_costs_nothing(kit: Kit) -> None:
    kit.worker(flaky)
    assert kit.blocking_client().call("kit.flaky", expiration="3h").result() == 3
    first, second, third = events
    assert 3600 <= second - first < 3602
    assert 3600 <= third - second < 3602


def test_a_call_without_a_worker_expires_on_time(kit: Kit) -> None:
    kit.worker(double).stop()
    began = kit.clock.time()
    with pytest.raises(crew.ExpirationError):
        kit.blocking_client().call("kit.double", 1, expiration=30).result()
    assert 30 <= passed(kit, began) < 31


def test_a_task_that_no_worker_has_served_is_unknown(kit: Kit) -> None:
    with pytest.raises(crew.UnknownTask):
        kit.blocking_client().call("kit.absent").result()


def test_a_task_waits_for_its_cancel(kit: Kit) -> None:
    kit.worker(poll)
    call = kit.blocking_client().call("kit.poll", expiration="2h")
    kit.clock.sleep(10)
    assert call.cancel()
    with pytest.raises(crew.Canceled):
        call.result()


def test_a_task_that_polls_is_told_that_nobody_canceled_it(kit: Kit) -> None:
    kit.worker(poll)
    assert kit.blocking_client().call("kit.poll", expiration="2h").result() == "not canceled"


def test_tasks_call_tasks(kit: Kit) -> None:
    kit.worker(nested, double)
    assert kit.blocking_client().call("kit.nested", 4).result() == 8


def test_tasks_publish_events(kit: Kit) -> None:
    kit.worker(publish)
    client = kit.blocking_client()
    client.subscribe("kit.topic", lambda event: events.append(event.payload))
    client.call("kit.publish", "hello").result()
    kit.clock.sleep(1)
    assert events == ["hello"]


def test_settings_of_the_worker_end_with_it(kit: Kit) -> None:
    worker = kit.worker(settings, value=7)
    assert kit.blocking_client().call("kit.settings").result() == 7
    worker.stop()
    assert not hasattr(context.settings, "value")


def test_a_persistent_call_survives_an_outage_of_minutes(kit: Kit) -> None:
    kit.worker(sleep)
    call = kit.blocking_client().call("kit.sleep", 30, expiration="1h")
    kit.clock.sleep(5)
    kit.broker.stop()
    kit.clock.sleep(60)
    assert not call.done()
    kit.broker.start()
    assert call.result() == "slept"


def test_a_call_is_refused_while_publishing_is_blocked(kit: Kit) -> None:
    kit.worker(double)
    client = kit.blocking_client()
    client.connect()
    client.call("kit.double", 1).result()
    kit.broker.block()
    with pytest.raises(crew.Overloaded, match="blocked publishing"):
        client.call("kit.double", 1).result()
    kit.broker.unblock()
    assert client.call("kit.double", 1).result() == 2


def test_a_job_is_recorded_and_canceled(kit: Kit) -> None:
    kit.worker(sleep)
    job = kit.blocking_client(store=kit.store()).submit("kit.sleep", 3000)
    kit.clock.sleep(10)
    assert job.status() == "started"
    assert job.cancel()
    with pytest.raises(crew.Canceled):
        job.result()


def test_an_async_client_submits_jobs(kit: Kit) -> None:
    kit.worker(sleep_async)

    async def test() -> Any:
        client = kit.client(store=kit.store())
        job = await client.submit("kit.sleep_async", 50)
        value = await job.result()
        await client.close()
        return value

    assert asyncio.run(test()) == "slept"


def test_the_http_api_calls_tasks(kit: Kit) -> None:
    kit.worker(double)
    web = kit.gateway()
    response = kit.fetch(web, "/call/kit.double", json=21)
    assert (response.status, response.json()) == (200, 42)
    assert kit.fetch(web, "/healthz").status == 200


def test_an_async_client_runs_on_the_loop_of_the_test(kit: Kit) -> None:
    kit.worker(sleep_async)

    async def test() -> list[str]:
        client = kit.client()
        values = await asyncio.gather(*(client.call("kit.sleep_async", 50) for _ in range(20)))
        await client.close()
        return values

    assert asyncio.run(test()) == ["slept"] * 20


def test_no_time_passes_while_a_function_runs_in_a_thread(kit: Kit) -> None:
    real = time.perf_counter

    def work() -> None:
        until = real() + 0.05
        while real() < until:
            pass

    async def test() -> float:
        kit.clock.adopt(asyncio.get_running_loop())
        began = kit.clock.time()
        async with asyncio.timeout(30):
            await asyncio.to_thread(work)
        return passed(kit, began)

    assert asyncio.run(test()) < 1


def test_a_wait_for_nothing_is_a_hang(kit: Kit) -> None:
    async def waits_for_nothing() -> None:
        kit.clock.adopt(asyncio.get_running_loop())
        await asyncio.Event().wait()

    with pytest.raises(Hang, match=r"nothing can happen any more(.|\n)*in waits_for_nothing"):
        asyncio.run(waits_for_nothing())


def test_a_loop_without_a_selector_is_refused_in_one_sentence(kit: Kit) -> None:
    class OtherLoop(asyncio.AbstractEventLoop):
        pass

    with pytest.raises(TypeError, match=r"OtherLoop cannot use the clock of a test.*--crew-broker"):
        kit.clock.adopt(OtherLoop())  # type: ignore[abstract]


def test_one_clock_is_installed_at_a_time(kit: Kit) -> None:
    with pytest.raises(RuntimeError, match="one clock is installed at a time"):
        VirtualClock().install()


def test_the_real_time_is_back_after_the_test() -> None:
    functions = time.time, time.monotonic, time.sleep
    with Kit() as kit:
        kit.clock.sleep(1_000_000)
        assert time.time() > functions[0]() + 900_000
    assert (time.time, time.monotonic, time.sleep) == functions


def test_what_is_no_task_is_one_sentence(kit: Kit) -> None:
    with pytest.raises(ValueError, match="is no task: pass a function below @Task"):
        kit.worker(print)
    with pytest.raises(ValueError, match="crew_worker needs tasks"):
        kit.worker()

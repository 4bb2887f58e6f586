"""Tasks that call tasks: they share one deadline, and a cancel or timeout stops all of them."""

import re
import time
from collections.abc import Iterator

import pytest

import crew
from crew import Client
from tests.integration.conftest import TASKS, StartWorker
from tests.support.processes import Output, Process, running
from tests.support.waiting import until

SCRIPT = "nesting.py"


@pytest.fixture(scope="module")
def three_processes(tmp_path_factory: pytest.TempPathFactory, broker_url: str, shared_prefix: str) -> Iterator[Process]:
    """A worker with three processes, so that three plain tasks run at a time."""
    environment = {"CREW_AMQP_URL": broker_url, "CREW_TEST_PREFIX": shared_prefix}
    with running(tmp_path_factory.mktemp("worker"), environment, preloaded=True) as processes:
        yield processes.python(TASKS.with_name(SCRIPT), "--processes", "3").says("serving", times=3)


@pytest.fixture
def worker(three_processes: Process) -> Output:
    """Output of the shared worker during this test."""
    return three_processes.from_now()


@pytest.mark.gen_test
async def test_three_nested_calls_share_one_deadline_and_each_has_less_time(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        deadline = time.time() + 2
        seen = await client.call(shared_prefix + "outer", {}, expiration=2, headers={**trace, "mine": 1})
    remaining = [one["remaining"] for one in seen]
    assert len(remaining) == 3
    assert 2 >= remaining[0] > remaining[1] > remaining[2] > 0
    assert all(one["deadline"] <= deadline + 0.05 for one in seen)  # clocks are read one after the other
    assert seen[0]["headers"] == {**trace, "mine": 1}
    assert [one["headers"] for one in seen[1:]] == [trace, trace]


@pytest.mark.gen_test
async def test_canceling_the_first_call_stops_all_three_within_a_second(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        call = client.call(shared_prefix + "outer", {"seconds": 30}, expiration=30)
        await until(lambda: "INNER" in worker.output)
        canceled = time.time()
        call.cancel()
        with pytest.raises(crew.Canceled):
            await call
        await until(lambda: worker.output.count("INTERRUPTED") == 3)
    stopped = re.findall(r"INTERRUPTED (\w+) (\w+) ([\d.]+)", worker.output)
    assert {(name, reason) for name, reason, _ in stopped} == {
        ("outer", "canceled"),
        ("middle", "canceled"),
        ("inner", "canceled"),
    }
    assert all(float(when) - canceled < 1 for _, _, when in stopped)


@pytest.mark.gen_test
async def test_the_deadline_of_the_first_call_stops_all_three(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError, match="while it waited for task"):
            await client.call(shared_prefix + "outer", {"seconds": 30}, expiration=1)
        assert time.monotonic() - began < 1.5
        await until(lambda: worker.output.count("INTERRUPTED") == 3)


@pytest.mark.gen_test
async def test_tasks_that_wait_for_each_other_in_one_slot_fail_with_the_reason(
    broker_url: str, prefix: str, start_worker: StartWorker
) -> None:
    start_worker(script=SCRIPT)
    async with Client(broker_url) as client:
        began = time.monotonic()
        with pytest.raises(crew.TimeoutError, match=f"waited for task '{prefix}itself', which no worker had started"):
            await client.call(prefix + "itself", None, expiration=1)
        assert time.monotonic() - began < 1.5
        assert await client.call(prefix + "nap", 0) > 0  # the worker still serves
        assert len(await client.call(prefix + "inner", {})) == 1


@pytest.mark.gen_test
async def test_a_task_may_wait_for_several_calls_at_once(broker_url: str, shared_prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        await client.call(shared_prefix + "pair", None)  # the first call declares the reply queue
        began = time.monotonic()
        assert await client.call(shared_prefix + "pair", None) == [1, 1]
        assert time.monotonic() - began < 0.95


@pytest.mark.gen_test
async def test_a_coroutine_waits_for_many_calls_at_once(broker_url: str, shared_prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        await client.call(shared_prefix + "gathered", 1)
        began = time.monotonic()
        assert len(await client.call(shared_prefix + "gathered", 50)) == 50
        assert time.monotonic() - began < 2  # 10 s, one after the other


@pytest.mark.gen_test
async def test_a_nested_call_is_canceled_if_its_task_ends_without_waiting_for_it(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        await client.call(shared_prefix + "leaves", "orphan")
        await until(lambda: "INTERRUPTED inner canceled" in worker.output)


@pytest.mark.gen_test
async def test_a_nested_call_without_remaining_time_is_refused_and_never_published(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TimeoutError):
            await client.call(shared_prefix + "late", None, expiration=0.5)
        await until(lambda: worker.output.count("LATE") == 2)
        await client.call(shared_prefix + "inner", {"name": "after"})
    assert worker.output.count("LATE ExpirationError") == 2
    assert "no time remains for the calling task" in worker.output
    assert re.findall(r"INNER (\w+)", worker.output) == ["after"]


@pytest.mark.gen_test
async def test_result_with_a_timeout_may_be_called_again(broker_url: str, shared_prefix: str, worker: Output) -> None:
    async with Client(broker_url) as client:
        message, length = await client.call(shared_prefix + "impatient", None)
    assert "has not ended within 0.05 s" in message
    assert length == 1


@pytest.mark.gen_test
async def test_an_error_of_the_inner_task_is_raised_in_the_outer_one(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(crew.TaskFailed, match=r"crew\.errors\.TaskFailed: KeyError: 'inside'"):
            await client.call(shared_prefix + "failing", "raising")
        with pytest.raises(crew.TaskFailed, match=r"UnknownTask: no worker has ever served"):
            await client.call(shared_prefix + "failing", "unserved")
        with pytest.raises(crew.TaskFailed, match=r"would block the event loop: `await context\.call"):
            await client.call(shared_prefix + "mistaken", None)


@pytest.mark.gen_test
async def test_a_nested_call_inside_a_shield_outlives_the_cancel_of_its_task(
    broker_url: str, shared_prefix: str, worker: Output
) -> None:
    async with Client(broker_url) as client:
        call = client.call(shared_prefix + "commit", None)
        await until(lambda: "COMMITTING" in worker.output)
        call.cancel()
        await until(lambda: "INTERRUPTED commit canceled" in worker.output)
    assert "COMMITTED 1" in worker.output

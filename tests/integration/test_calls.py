"""A call behaves like a function call: it either returns or raises."""

import asyncio
import logging
from typing import Any

import pytest
from tornado import gen

import crew
from crew import Client
from crew.client import blocking
from tests.support.processes import Process
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("shared_worker")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("payload", "serializer"),
    [
        (None, None),
        ({"width": 640, "names": ["a", "ü", "\N{GRINNING FACE}"], "deep": {"x": [1.5, None, True]}}, None),
        (2**64, "json"),
        (b"\x00\xff", None),
        ({"raw": b"\x00\xff", 1: "one"}, "msgpack"),
        ("plain text", "text"),
        ("x" * 1_000_000, None),
        (bytes(range(256)) * 4096, "bytes"),
    ],
)
async def test_a_payload_arrives_as_it_was_sent(
    broker_url: str, prefix: str, payload: Any, serializer: str | None
) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "echo", payload, serializer=serializer) == payload


@pytest.mark.gen_test
async def test_headers_reach_the_task_and_the_caller_but_not_the_next_call(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        first = client.call(prefix + "headers", headers={"question": "why"})
        second = client.call(prefix + "headers")
        assert await first == ["answer"]
        assert first.headers == {"answer": "whywhy"}
        assert await second == ["answer"]
        assert second.headers == {"answer": "nonenone"}


@pytest.mark.gen_test
async def test_a_handler_class_serves_a_task(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert await client.call(prefix + "doubled", 21) == 42


@pytest.mark.gen_test
async def test_settings_are_kept_between_executions(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        first = await client.call(prefix + "who")
        second = await client.call(prefix + "who")
    assert second["counter"] == first["counter"] + 1
    assert second["uuid"] == first["uuid"]


@pytest.mark.gen_test
async def test_a_coroutine_of_tornado_can_yield_a_call(broker_url: str, prefix: str) -> None:
    client = Client(broker_url)

    @gen.coroutine
    def handler() -> Any:
        value = yield client.call(prefix + "echo", "yielded")
        raise gen.Return(value)

    assert await handler() == "yielded"
    await client.close()


@pytest.mark.gen_test
async def test_a_callback_gets_value_and_headers_or_the_exception_as_a_value(broker_url: str, prefix: str) -> None:
    results: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

    async def on_result(value: Any, headers: Any) -> None:
        results.put_nowait((value, headers))

    async with Client(broker_url) as client:
        client.call(prefix + "headers", callback=on_result)
        assert await results.get() == (["answer"], {"answer": "nonenone"})
        client.call(prefix + "bad", "raise", callback=lambda value, headers: results.put_nowait((value, headers)))
        error, _ = await results.get()
        assert isinstance(error, crew.TaskFailed)


@pytest.mark.gen_test
async def test_parallel_calls_return_their_results_in_order_with_exceptions_as_values(
    broker_url: str, prefix: str
) -> None:
    async with Client(broker_url) as client:
        with client.parallel() as calls:
            calls.call(prefix + "sleep", 0.05)
            calls.call(prefix + "bad", "raise")
            calls.call(prefix + "echo", "last")
        slow, failed, last = await calls.result()
    assert slow == 0.05
    assert isinstance(failed, crew.TaskFailed)
    assert last == "last"


@pytest.mark.gen_test
async def test_a_call_before_connect_connects(broker_url: str, prefix: str) -> None:
    client = Client(broker_url)
    assert await client.call(prefix + "echo", 1) == 1
    await client.close()


def test_a_client_can_be_built_and_subscribe_before_an_event_loop_runs(broker_url: str, prefix: str) -> None:
    topic = prefix + "early"
    events: list[Any] = []
    client = Client(broker_url)
    subscription = client.subscribe(topic, events.append)

    async def later() -> None:
        assert await client.call(prefix + "echo", "later") == "later"
        await subscription.ready()
        await client.publish(topic, "event")
        await until(lambda: events)
        await client.close()

    asyncio.run(later())
    assert [event.payload for event in events] == ["event"]


def test_a_script_can_call_without_an_event_loop(broker_url: str, prefix: str) -> None:
    with blocking.Client(broker_url) as client:
        call = client.call(prefix + "echo", {"from": "a script"})
        assert call.result(timeout=5) == {"from": "a script"}
        assert call.done()
        with pytest.raises(crew.TaskFailed, match="KeyError"):
            client.call(prefix + "bad", "raise").result(timeout=5)
        with pytest.raises(ValueError, match="expiration"):
            client.call(prefix + "echo", expiration=0)
        slow = client.call(prefix + "sleep", 0.2)
        with pytest.raises(TimeoutError):
            slow.result(timeout=0.01)
        assert slow.result(timeout=5) == 0.2
    with pytest.raises(crew.ConnectionError, match="closed"):
        client.call(prefix + "echo")


@pytest.mark.gen_test
async def test_a_canceled_call_raises_canceled_and_leaves_nothing_behind(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        call = client.call(prefix + "sleep", 0.3)
        assert call.cancel()
        with pytest.raises(crew.Canceled):
            await call
        assert not call.cancel()
        assert "0 calls in flight" in repr(client)
        task = asyncio.ensure_future(_await(client.call(prefix + "sleep", 0.3)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "0 calls in flight" in repr(client)


async def _await(call: Any) -> Any:
    return await call


@pytest.mark.gen_test
async def test_a_call_with_the_id_of_a_pending_call_is_refused(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        first = client.call(prefix + "sleep", 0.1, id="mine")
        with pytest.raises(crew.DuplicateCallId, match="mine"):
            client.call(prefix + "echo", id="mine")
        assert await first == 0.1
        assert await client.call(prefix + "echo", "again", id="mine") == "again"


@pytest.mark.gen_test
async def test_a_call_above_max_pending_raises_overloaded(broker_url: str, prefix: str) -> None:
    async with Client(broker_url, max_pending=2) as client:
        calls = [client.call(prefix + "sleep", 0.05) for _ in range(2)]
        with pytest.raises(crew.Overloaded, match="2 calls"):
            client.call(prefix + "echo")
        assert [await call for call in calls] == [0.05, 0.05]
        assert await client.call(prefix + "echo", "room again") == "room again"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"expiration": 0}, "expiration"),
        ({"expiration": -1.5}, "expiration"),
        ({"expiration": float("nan")}, "expiration"),
        ({"expiration": "soon"}, "expiration"),
        ({"expiration": True}, "expiration"),
        ({"timeout": 0}, "timeout"),
        ({"priority": -1}, "priority"),
        ({"priority": 256}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"serializer": "pickle"}, "serializer"),
        ({"headers": {"crew-task": "x"}}, "crew-task"),
        ({"headers": {"list": [1]}}, "list"),
        ({"id": ""}, "id"),
    ],
)
async def test_an_invalid_argument_of_a_call_is_refused_by_name(
    broker_url: str, prefix: str, options: dict[str, Any], names: str
) -> None:
    async with Client(broker_url) as client:
        with pytest.raises(ValueError, match=names):
            client.call(prefix + "echo", **options)
        assert await client.call(prefix + "echo", 1, expiration=5, priority=255) == 1


@pytest.mark.gen_test
async def test_closing_a_client_fails_its_pending_calls(broker_url: str, prefix: str) -> None:
    client = Client(broker_url)
    call = client.call(prefix + "sleep", 0.2)
    await client.connect()
    await client.close()
    await client.close()
    with pytest.raises(crew.ConnectionError, match="closed"):
        await call
    with pytest.raises(crew.ConnectionError, match="closed"):
        client.call(prefix + "echo")


@pytest.mark.gen_test
async def test_a_failed_call_that_is_not_awaited_is_logged(
    broker_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(broker_url) as client:
        with caplog.at_level(logging.WARNING, logger="crew.client.calling.call"):
            client.call(prefix + "bad", "raise")
            await until(lambda: "nothing awaited it" in caplog.text)


@pytest.mark.gen_test
async def test_a_task_can_read_the_remaining_time_of_its_call(broker_url: str, prefix: str) -> None:
    async with Client(broker_url) as client:
        assert 4 < await client.call(prefix + "remaining", expiration=5) <= 5
        assert 1 < await client.call(prefix + "remaining", expiration=5, timeout=2) <= 2


def test_no_test_of_this_module_restarted_the_worker(shared_worker: Process) -> None:
    assert shared_worker.output.count("serving") == 1
    assert "Traceback" not in shared_worker.own_output

"""PendingCall: awaiting, canceling, callbacks."""

import asyncio
import gc
import logging
from collections.abc import Generator
from typing import Any

import pytest
from tornado import gen

from crew.client.calling.call import PendingCall
from crew.errors import Canceled, TaskFailed
from tests.support.pending_calls import CanceledCalls, a_call
from tests.support.waiting import until


async def waiting(call: PendingCall[Any]) -> Any:
    """Await the call in a coroutine, for asyncio tasks."""
    return await call


def settle_soon(call: PendingCall[Any], result: Any) -> None:
    """Settle the call in the next iteration of the loop."""
    asyncio.get_running_loop().call_soon(call.settle, result)


# --- awaiting -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_awaiting_a_call_returns_the_value_of_its_task() -> None:
    call = a_call()
    settle_soon(call, {"width": 320})
    assert await call == {"width": 320}


@pytest.mark.gen_test
async def test_awaiting_a_call_that_failed_raises() -> None:
    call = a_call()
    settle_soon(call, TaskFailed("KeyError", "'x'"))
    with pytest.raises(TaskFailed, match="KeyError: 'x'"):
        await call


@pytest.mark.gen_test
async def test_an_ended_call_can_be_awaited_repeatedly() -> None:
    call = a_call()
    call.settle(7)
    assert [await call, await call] == [7, 7]


@pytest.mark.gen_test
async def test_all_waiters_of_a_call_get_its_value() -> None:
    call = a_call()
    tasks = [asyncio.ensure_future(waiting(call)) for _ in range(3)]
    await asyncio.sleep(0)
    call.settle("value")
    assert await asyncio.gather(*tasks) == ["value"] * 3


@pytest.mark.gen_test
async def test_all_waiters_of_a_call_get_its_failure() -> None:
    call = a_call()
    tasks = [asyncio.ensure_future(waiting(call)) for _ in range(3)]
    await asyncio.sleep(0)
    failure = TaskFailed("KeyError")
    call.settle(failure)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [failure] * 3


@pytest.mark.gen_test
async def test_a_call_ends_once() -> None:
    call = a_call()
    assert [call.settle("first", {"a": 1}), call.settle(ValueError("second"), {"b": 2})] == [True, False]
    assert (await call, call.headers) == ("first", {"a": 1})


@pytest.mark.gen_test
async def test_a_value_of_none_is_a_value() -> None:
    call = a_call()
    settle_soon(call, None)
    assert await call is None
    assert call.done()


@pytest.mark.gen_test
async def test_calls_can_be_gathered() -> None:
    calls = [a_call() for _ in range(3)]
    for number, call in enumerate(calls):
        settle_soon(call, number)
    assert await asyncio.gather(*calls) == [0, 1, 2]


@pytest.mark.gen_test
async def test_a_gen_coroutine_may_yield_a_call() -> None:
    @gen.coroutine
    def handler(call: PendingCall[Any]) -> Generator[Any, Any, Any]:
        value = yield call
        return value + 1

    call = a_call()
    settle_soon(call, 41)
    assert await handler(call) == 42


@pytest.mark.gen_test
async def test_a_gen_coroutine_that_yields_a_call_sees_its_failure() -> None:
    @gen.coroutine
    def handler(call: PendingCall[Any]) -> Generator[Any, Any, Any]:
        try:
            yield call
        except TaskFailed as error:
            return error.type_name

    call = a_call()
    settle_soon(call, TaskFailed("KeyError"))
    assert await handler(call) == "KeyError"


@pytest.mark.gen_test
async def test_a_gen_coroutine_may_yield_several_calls() -> None:
    @gen.coroutine
    def handler(*calls: PendingCall[Any]) -> Generator[Any, Any, Any]:
        values = yield list(calls)
        return values

    calls = [a_call(), a_call()]
    settle_soon(calls[1], 2)
    settle_soon(calls[0], 1)
    assert await handler(*calls) == [1, 2]


# --- canceling ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_awaiting_a_canceled_call_raises_canceled() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    task = asyncio.ensure_future(waiting(call))
    await asyncio.sleep(0)
    assert call.cancel() is True
    with pytest.raises(Canceled, match=call.id):
        await task
    assert canceled.calls == [call]


@pytest.mark.gen_test
async def test_an_ended_call_cannot_be_canceled() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    call.settle("value")
    assert call.cancel() is False
    assert await call == "value"
    assert canceled.calls == []


@pytest.mark.gen_test
async def test_canceling_twice_has_no_further_effect() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    assert [call.cancel(), call.cancel()] == [True, False]
    assert canceled.calls == [call]


@pytest.mark.gen_test
async def test_a_call_is_canceled_with_its_last_waiter() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    task = asyncio.ensure_future(waiting(call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert canceled.calls == [call]
    with pytest.raises(Canceled):
        await call


@pytest.mark.gen_test
async def test_a_call_with_another_waiter_continues() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    impatient, patient = (asyncio.ensure_future(waiting(call)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    assert canceled.calls == []
    call.settle("value")
    assert await patient == "value"


@pytest.mark.gen_test
async def test_a_call_with_a_callback_continues_without_waiters() -> None:
    results: list[Any] = []
    canceled = CanceledCalls()
    call = a_call(callback=lambda value, headers: results.append(value), on_canceled=canceled)
    task = asyncio.ensure_future(waiting(call))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    call.settle("value")
    assert (results, canceled.calls) == (["value"], [])


@pytest.mark.gen_test
async def test_wait_for_cancels_the_call_at_its_timeout() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.01)
    assert canceled.calls == [call]


@pytest.mark.gen_test
async def test_wait_for_returns_the_value_of_a_call_that_ends_in_time() -> None:
    call = a_call()
    settle_soon(call, "value")
    assert await asyncio.wait_for(call, 5) == "value"


@pytest.mark.gen_test
async def test_a_call_that_ends_just_before_its_cancellation_is_not_canceled() -> None:
    canceled = CanceledCalls()
    call = a_call(on_canceled=canceled)
    task = asyncio.ensure_future(waiting(call))
    await asyncio.sleep(0)
    call.settle("value")
    task.cancel()
    await asyncio.wait([task])
    assert canceled.calls == []
    assert await call == "value"


# --- callbacks ------------------------------------------------------------------------------------------------------


def test_a_callback_gets_value_and_headers() -> None:
    results: list[Any] = []
    a_call(callback=lambda value, headers: results.append((value, headers))).settle("value", {"a": 1})
    assert results == [("value", {"a": 1})]


def test_a_callback_gets_a_failure_as_a_value() -> None:
    results: list[Any] = []
    failure = TaskFailed("KeyError")
    a_call(callback=lambda value, headers: results.append(value)).settle(failure)
    assert results == [failure]


def test_a_callback_gets_canceled_for_a_canceled_call() -> None:
    results: list[Any] = []
    a_call(callback=lambda value, headers: results.append(value)).cancel()
    assert [type(result) for result in results] == [Canceled]


def test_a_callback_is_called_once() -> None:
    results: list[Any] = []
    call = a_call(callback=lambda value, headers: results.append(value))
    call.settle(1)
    call.settle(2)
    call.cancel()
    assert results == [1]


@pytest.mark.gen_test
async def test_a_callback_may_be_a_coroutine_function() -> None:
    results: list[Any] = []

    async def on_result(value: Any, headers: Any) -> None:
        await asyncio.sleep(0)
        gc.collect()
        results.append(value)

    a_call(callback=on_result).settle("value")
    await until(lambda: results == ["value"])


def test_a_callback_that_raises_is_logged_and_affects_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def on_result(value: Any, headers: Any) -> None:
        raise ValueError("a bug")

    call = a_call("17", callback=on_result)
    assert call.settle("value") is True
    assert "callback failed: call_id=17 task=t" in caplog.text
    assert "a bug" in caplog.text


def test_a_callback_that_reads_a_canceled_future_affects_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def on_result(value: Any, headers: Any) -> None:
        raise asyncio.CancelledError  # a BaseException, which would end the reading from the broker

    assert a_call("17", callback=on_result).settle("value") is True
    assert "callback failed: call_id=17 task=t" in caplog.text


@pytest.mark.gen_test
async def test_a_coroutine_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def on_result(value: Any, headers: Any) -> None:
        raise ValueError("a bug")

    a_call("17", callback=on_result).settle("value")
    await until(lambda: "callback failed: call_id=17" in caplog.text)
    assert "a bug" in caplog.text


@pytest.mark.gen_test
async def test_awaiting_a_call_whose_callback_raises_returns_the_value() -> None:
    def on_result(value: Any, headers: Any) -> None:
        raise ValueError("a bug")

    call = a_call(callback=on_result)
    settle_soon(call, "value")
    assert await call == "value"


# --- log ------------------------------------------------------------------------------------------------------------


def test_a_failure_that_was_not_awaited_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    call = a_call("17")
    call.settle(TaskFailed("KeyError", "'x'"))
    del call
    gc.collect()
    assert caplog.messages == ["call failed, and nothing awaited it: call_id=17 task=t: KeyError: 'x'"]


@pytest.mark.gen_test
async def test_an_awaited_or_canceled_failure_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    seen, canceled, called_back = a_call(), a_call(), a_call(callback=lambda value, headers: None)
    for call in (seen, called_back):
        call.settle(TaskFailed("KeyError"))
    canceled.cancel()
    with pytest.raises(TaskFailed):
        await seen
    del call, seen, canceled, called_back
    gc.collect()
    assert caplog.messages == []


@pytest.mark.gen_test
async def test_a_failure_whose_only_waiter_is_canceled_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end_it_and_cancel_its_reader() -> None:
        call = a_call("17")
        reader = asyncio.ensure_future(waiting(call))
        await asyncio.sleep(0)
        call.settle(TaskFailed("KeyError"))
        reader.cancel()
        await asyncio.wait([reader])

    await end_it_and_cancel_its_reader()
    await asyncio.sleep(0)
    gc.collect()
    assert caplog.messages == []


def test_the_repr_of_a_call_shows_its_state() -> None:
    call = a_call("17")
    assert repr(call) == "<PendingCall 17 of t: waiting for the broker>"
    call.was_published = True
    assert repr(call) == "<PendingCall 17 of t: published>"
    call.has_started = True
    assert repr(call) == "<PendingCall 17 of t: running>"
    call.settle(None)
    assert repr(call) == "<PendingCall 17 of t: returned>"

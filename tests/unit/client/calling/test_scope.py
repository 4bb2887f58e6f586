"""Scopes: the calls of one HTTP request or one execution end together."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Coroutine, Generator
from typing import Any, cast

import pytest
from tornado import gen

from crew.client import Client, Parallel, PendingCall, Scope, blocking
from crew.client.calling.call import CallScope, current_scope
from crew.client.events.subscription import Subscription
from crew.errors import Canceled, TaskFailed, is_abandonment
from tests.support.broker import unreachable_url
from tests.support.links import ignored
from tests.support.pending_calls import CanceledCalls, a_call
from tests.support.waiting import until

GONE = "the HTTP client has gone"


async def waiting(call: PendingCall[Any]) -> Any:
    """Await the call in a coroutine, for asyncio tasks."""
    return await call


async def begun(scope: Scope | None, step: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task in `scope` that has reached its first `await`."""
    before = current_scope.set(scope)
    try:
        task = asyncio.ensure_future(step)
    finally:
        current_scope.reset(before)
    for _ in range(3):  # a gather in `step` starts tasks of its own
        await asyncio.sleep(0)
    return task


# --- calls of a scope -----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_call_that_is_made_in_a_scope_belongs_to_it() -> None:
    with unreachable_url() as url:
        client = Client(url)
        with Scope() as scope:
            call = client.call("t")
            assert scope.abandon(GONE) == [call]
        assert call.done()
        assert "0 calls in flight" in repr(client)
        await client.close()


@pytest.mark.gen_test
async def test_a_call_that_is_made_without_a_scope_belongs_to_none() -> None:
    with unreachable_url() as url:
        client = Client(url)
        with Scope() as scope:
            pass
        call = client.call("t")
        assert scope.abandon(GONE) == []
        assert not call.done()
        await client.close()


@pytest.mark.gen_test
async def test_a_nested_scope_has_its_own_calls() -> None:
    with unreachable_url() as url:
        client = Client(url)
        with Scope() as outer:
            with Scope():
                client.call("t")
            assert outer.in_flight == 0
            client.call("t")
            assert outer.in_flight == 1
        await client.close()


@pytest.mark.gen_test
async def test_tasks_that_are_started_in_a_scope_are_in_it() -> None:
    async def in_a_task() -> CallScope | None:
        return current_scope.get()

    with Scope() as scope:
        task = asyncio.ensure_future(in_a_task())
    assert await task is scope
    assert current_scope.get() is None


@pytest.mark.gen_test
async def test_a_scope_may_be_entered_for_the_rest_of_a_task() -> None:
    scope = Scope()

    async def handler() -> CallScope | None:
        scope.enter()
        await asyncio.sleep(0)
        return current_scope.get()

    assert await asyncio.ensure_future(handler()) is scope
    assert current_scope.get() is None


# --- waiters --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_waiter_in_an_abandoned_scope_gets_canceled_with_the_reason() -> None:
    canceled = CanceledCalls()
    scope, call = Scope(), a_call("17", on_canceled=canceled)
    task = await begun(scope, waiting(call))
    assert scope.abandon(GONE) == [call]
    with pytest.raises(Canceled, match="call 17 of task t was canceled: the HTTP client has gone") as caught:
        await task
    assert caught.value.is_abandoned
    assert canceled.calls == [call]


@pytest.mark.gen_test
async def test_a_call_continues_until_the_last_scope_that_waits_is_abandoned() -> None:
    canceled = CanceledCalls()
    first, second, call = Scope(), Scope(), a_call(on_canceled=canceled)
    first.add(call)
    tasks = [await begun(scope, waiting(call)) for scope in (first, second)]

    assert first.abandon(GONE) == []
    with pytest.raises(Canceled, match=GONE):
        await tasks[0]
    assert not call.done()

    assert second.abandon(GONE) == [call]
    with pytest.raises(Canceled, match=GONE):
        await tasks[1]
    assert canceled.calls == [call]


@pytest.mark.gen_test
async def test_the_last_scope_that_waits_gets_the_value() -> None:
    first, second, call = Scope(), Scope(), a_call()
    tasks = [await begun(scope, waiting(call)) for scope in (first, second)]
    first.abandon(GONE)
    call.settle("value")
    assert await tasks[1] == "value"
    with pytest.raises(Canceled):
        await tasks[0]


@pytest.mark.gen_test
async def test_a_call_with_a_waiter_outside_of_scopes_continues() -> None:
    scope, call = Scope(), a_call()
    scope.add(call)
    task = await begun(None, waiting(call))
    assert scope.abandon(GONE) == []
    call.settle("value")
    assert await task == "value"


@pytest.mark.gen_test
async def test_a_call_added_wholly_ends_with_its_scope_despite_other_waiters() -> None:
    first, second, call = Scope(), Scope(), a_call(callback=ignored)
    for scope in (first, second):
        scope.add(call, wholly=True)
    task = await begun(None, waiting(call))
    assert first.abandon(GONE) == []
    assert second.abandon(GONE) == [call]
    with pytest.raises(Canceled, match=GONE):
        await task


@pytest.mark.gen_test
async def test_a_call_that_another_scope_has_added_continues() -> None:
    first, second, call = Scope(), Scope(), a_call()
    first.add(call)
    second.add(call)
    assert first.abandon(GONE) == []
    assert second.abandon(GONE) == [call]


@pytest.mark.gen_test
async def test_a_call_made_outside_and_awaited_in_one_scope_ends_with_that_scope() -> None:
    scope, call = Scope(), a_call()
    task = await begun(scope, waiting(call))
    assert scope.abandon(GONE) == [call]
    await asyncio.wait([task])
    assert is_abandonment(task.exception())


@pytest.mark.gen_test
async def test_an_unawaited_call_ends_with_its_scope() -> None:
    scope, call = Scope(), a_call()
    scope.add(call)
    assert scope.abandon(GONE) == [call]


@pytest.mark.gen_test
async def test_awaiting_in_an_abandoned_scope_raises_at_once_and_affects_no_other_waiter() -> None:
    call = a_call()
    with Scope() as scope:
        scope.abandon(GONE)
        with pytest.raises(Canceled, match=GONE):
            await call
    assert not call.done()


@pytest.mark.gen_test
async def test_an_ended_call_can_be_awaited_in_an_abandoned_scope() -> None:
    call = a_call()
    call.settle("value")
    with Scope() as scope:
        scope.abandon(GONE)
        assert await call == "value"


@pytest.mark.gen_test
async def test_a_task_that_asyncio_cancels_as_its_scope_is_abandoned_is_canceled() -> None:
    scope, call = Scope(), a_call()
    task = await begun(scope, waiting(call))
    scope.abandon(GONE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.gen_test
async def test_a_task_that_asyncio_cancels_cancels_its_call_in_a_scope_too() -> None:
    canceled = CanceledCalls()
    scope, call = Scope(), a_call(on_canceled=canceled)
    scope.add(call)
    task = await begun(scope, waiting(call))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert canceled.calls == [call]
    assert scope.in_flight == 0


# --- styles of waiting ----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_gather_ends_with_its_scope() -> None:
    async def both(*calls: PendingCall[Any]) -> list[Any]:
        return await asyncio.gather(*calls)

    scope, calls = Scope(), [a_call(), a_call()]
    task = await begun(scope, both(*calls))
    assert scope.abandon(GONE) == calls
    with pytest.raises(Canceled, match=GONE):
        await task


@pytest.mark.gen_test
async def test_a_task_group_ends_with_its_scope() -> None:
    async def both(*calls: PendingCall[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(waiting(call))

    scope, calls = Scope(), [a_call(), a_call()]
    task = await begun(scope, both(*calls))
    scope.abandon(GONE)
    await asyncio.wait([task])
    assert is_abandonment(task.exception())


@pytest.mark.gen_test
async def test_a_gen_coroutine_ends_with_its_scope() -> None:
    @gen.coroutine
    def handler(call: PendingCall[Any]) -> Generator[Any, Any, Any]:
        yield call

    async def execute(call: PendingCall[Any]) -> None:
        await handler(call)

    scope, call = Scope(), a_call()
    task = await begun(scope, execute(call))
    assert scope.abandon(GONE) == [call]
    with pytest.raises(Canceled, match=GONE):
        await task


@pytest.mark.gen_test
async def test_the_result_of_parallel_calls_is_canceled_rather_than_a_list_of_failures() -> None:
    async def handler(client: Client) -> list[Any]:
        with client.parallel() as calls:
            calls.call("a")
            calls.call("b")
        return await calls.result()

    with unreachable_url() as url:
        client, scope = Client(url), Scope()
        task = await begun(scope, handler(client))
        assert len(scope.abandon(GONE)) == 2
        with pytest.raises(Canceled, match=GONE):
            await task
        assert "0 calls in flight" in repr(client)
        await client.close()


@pytest.mark.gen_test
async def test_parallel_calls_do_not_cancel_a_call_of_another_request() -> None:
    shared, own = a_call(), a_call()
    calls = Parallel(cast(Any, None))
    calls._calls += [shared, own]
    first, second = Scope(), Scope()
    tasks = [await begun(first, calls.result()), await begun(second, waiting(shared))]
    assert first.abandon(GONE) == [own]
    with pytest.raises(Canceled):
        await tasks[0]
    shared.settle("value")
    assert await tasks[1] == "value"


# --- callbacks ------------------------------------------------------------------------------------------------------


def a_call_of(scope: Scope | None, results: list[Any]) -> PendingCall[Any]:
    """A call with a callback, made in `scope`; its callback records the result and its current scope."""
    before = current_scope.set(scope)
    call = a_call(callback=lambda value, headers: results.append((value, current_scope.get())))
    current_scope.reset(before)
    if scope is not None:
        scope.add(call)
    return call


@pytest.mark.gen_test
async def test_a_callback_of_an_abandoned_scope_gets_canceled() -> None:
    results: list[Any] = []
    scope = Scope()
    call = a_call_of(scope, results)
    assert scope.abandon(GONE) == [call]
    ((result, within),) = results
    assert isinstance(result, Canceled)
    assert within is scope


@pytest.mark.gen_test
async def test_a_callback_of_another_scope_keeps_the_call_running() -> None:
    for owner in (Scope(), None):
        results: list[Any] = []
        call, scope = a_call_of(owner, results), Scope()
        task = await begun(scope, waiting(call))
        assert scope.abandon(GONE) == []
        with pytest.raises(Canceled):
            await task
        call.settle("value")
        assert results == [("value", owner)]


@pytest.mark.gen_test
async def test_a_call_with_a_callback_of_an_abandoned_scope_ends_with_its_last_waiter() -> None:
    scope = Scope()
    call = a_call_of(scope, [])
    task = await begun(None, waiting(call))
    assert scope.abandon(GONE) == []
    task.cancel()
    await asyncio.wait([task])
    assert call.done()


@pytest.mark.gen_test
async def test_callbacks_run_in_the_scope_of_their_caller() -> None:
    results: list[Any] = []
    own, other = Scope(), Scope()
    call = a_call_of(own, results)
    subscription = Subscription("news", lambda event: results.append(current_scope.get()), ignored)
    with other:
        call.settle("value")
        subscription.deliver(cast(Any, "event"))
    assert results == [("value", own), None]


@pytest.mark.gen_test
async def test_a_callback_that_raises_for_its_abandoned_scope_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def call_next(value: Any, headers: Any) -> None:
        scope.check("next")

    with Scope() as scope:
        call = a_call(callback=call_next)
        scope.add(call)
        scope.abandon(GONE)
    assert call.done()
    assert caplog.messages == []


# --- after the scope ------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_call_in_an_abandoned_scope_is_refused_with_advice() -> None:
    with unreachable_url() as url:
        client = Client(url)
        with Scope() as scope:
            scope.abandon(GONE)
            with pytest.raises(Canceled, match=r"'resize' is not called: the HTTP client has gone.*client\.Scope"):
                client.call("resize")
            assert "0 calls in flight" in repr(client)
            with Scope():
                client.call("resize")
            assert "1 calls in flight" in repr(client)
        await client.close()


def test_calls_of_the_blocking_client_belong_to_no_scope_of_their_thread() -> None:
    with unreachable_url() as url, blocking.Client(url) as client, Scope() as scope:
        scope.abandon(GONE)
        assert client.call("t").cancel()


@pytest.mark.gen_test
async def test_ended_calls_leave_their_scope() -> None:
    scope = Scope()
    calls = [a_call() for _ in range(4)]
    for call in calls:
        scope.add(call)
    task = await begun(scope, waiting(calls[0]))
    calls[0].settle("value")
    calls[1].settle(TaskFailed("KeyError"))
    calls[2].cancel()
    assert scope.in_flight == 1
    assert scope.abandon(GONE) == [calls[3]]
    assert scope.in_flight == 0
    await task
    with pytest.raises(TaskFailed):
        await calls[1]


def test_an_ended_call_does_not_join_a_scope() -> None:
    scope, call = Scope(), a_call()
    call.settle("value")
    scope.add(call)
    assert scope.in_flight == 0


def test_a_call_that_joins_an_abandoned_scope_is_canceled() -> None:
    scope, call = Scope(), a_call()
    scope.abandon(GONE)
    scope.add(call)
    assert call.done()


def test_calls_continue_after_their_scope_is_closed() -> None:
    call = a_call()
    with Scope() as scope:
        scope.add(call)
    assert scope.in_flight == 0
    assert scope.abandon(GONE) == []
    assert not call.done()
    assert not scope.is_abandoned


@pytest.mark.gen_test
async def test_a_waiter_in_a_closed_scope_gets_the_value() -> None:
    scope, call = Scope(), a_call()
    task = await begun(scope, waiting(call))
    scope.close()
    scope.abandon(GONE)
    call.settle("value")
    assert await task == "value"


def test_a_scope_is_abandoned_once() -> None:
    scope, call = Scope(), a_call()
    scope.add(call)
    assert [scope.abandon("first"), scope.abandon("second")] == [[call], []]
    assert scope.why == "first"


@pytest.mark.gen_test
async def test_ended_calls_and_their_scope_are_garbage_collected() -> None:
    async def request() -> tuple["weakref.ref[Scope]", "weakref.ref[PendingCall[Any]]"]:
        scope, call = Scope(), a_call()
        scope.enter()
        task = asyncio.ensure_future(waiting(call))
        await asyncio.sleep(0)
        call.settle("value")
        await task
        assert scope.in_flight == 0
        return weakref.ref(scope), weakref.ref(call)

    def are_collected() -> bool:
        gc.collect()
        return of_scope() is None and of_call() is None

    of_scope, of_call = await asyncio.ensure_future(request())
    await until(are_collected)


@pytest.mark.gen_test
async def test_an_abandoned_call_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    scope = Scope()
    calls = [a_call(), a_call(callback=ignored)]
    tasks = [await begun(scope, waiting(call)) for call in calls]
    scope.abandon(GONE)
    await asyncio.gather(*tasks, return_exceptions=True)
    del calls, tasks
    gc.collect()
    assert caplog.messages == []


def test_the_repr_of_a_scope_shows_its_state() -> None:
    scope = Scope()
    scope.add(a_call())
    assert repr(scope) == "<Scope of 1 calls in flight: open>"
    scope.abandon(GONE)
    assert repr(scope) == "<Scope of 0 calls in flight: abandoned: the HTTP client has gone>"
    scope = Scope()
    scope.close()
    assert repr(scope) == "<Scope of 0 calls in flight: closed>"

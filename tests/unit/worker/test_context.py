"""`context`, as a running task sees it."""

import threading
from typing import Any

import pytest

from crew.worker.context import Context, ContextPubSub, context
from tests.support.deliveries import an_execution, run, value_of


def seen(look: Any, **execution: Any) -> Any:
    """The value of `look()` inside a task."""
    running = an_execution(lambda data: look(), **execution)
    running.begin()
    run(running)
    return value_of(running)


@pytest.mark.parametrize("name", ["headers", "call_headers", "id", "task", "attempt", "remaining", "canceled"])
def test_the_context_outside_of_a_task_is_an_error(name: str) -> None:
    with pytest.raises(RuntimeError, match="no task is running here"):
        getattr(context, name)


def test_a_task_sees_its_own_call() -> None:
    assert seen(lambda: [context.task, context.attempt, context.call_headers], headers={"tenant": "a"}, crashes=1) == [
        "t",
        2,
        {"tenant": "a"},
    ]
    assert str(seen(lambda: context.id)).startswith("call-")


def test_a_task_sees_its_remaining_time() -> None:
    assert 9.5 < seen(lambda: context.remaining, budget=10.0) <= 10.0
    assert 2.5 < seen(lambda: context.remaining, budget=10.0, timeout=3.0) <= 3.0
    assert seen(lambda: context.remaining, budget=None) is None


def test_a_task_that_should_not_end_is_not_canceled() -> None:
    assert seen(lambda: context.canceled.is_set()) is False


def test_the_headers_of_the_call_are_a_copy() -> None:
    def look() -> dict[str, Any]:
        context.call_headers["tenant"] = "b"
        return context.call_headers

    assert seen(look, headers={"tenant": "a"}) == {"tenant": "a"}


def test_reply_headers_are_empty_at_the_start_of_every_execution() -> None:
    def look() -> dict[str, Any]:
        before = dict(context.headers)
        context.headers["a"] = 1
        return before

    assert [seen(look), seen(look)] == [{}, {}]


def test_each_thread_sees_its_own_execution() -> None:
    barrier = threading.Barrier(2)

    def look(number: int) -> list[Any]:
        context.headers["number"] = number
        barrier.wait(5)
        return [number, context.headers["number"]]

    executions = [an_execution(look, number) for number in range(2)]
    for execution in executions:
        execution.begin()
    threads = [threading.Thread(target=execution.run) for execution in executions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert [value_of(execution) for execution in executions] == [[0, 0], [1, 1]]


def test_settings_are_kept_between_tasks() -> None:
    own = Context()
    own.settings.counter = 0

    def count() -> int:
        own.settings.counter += 1
        return int(own.settings.counter)

    assert [seen(count), seen(count)] == [1, 2]


def test_publishing_outside_of_a_worker_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="inside a running worker only"):
        ContextPubSub().publish("news")


def test_publish_passes_all_arguments_on() -> None:
    published: list[Any] = []
    pubsub = ContextPubSub()
    pubsub.bind(lambda *args, **options: published.append((args, options)))
    pubsub.publish("news", {"x": 1}, headers={"a": 1})
    assert published == [(("news", {"x": 1}), {"serializer": None, "headers": {"a": 1}})]

"""Nested calls, over connections that the test simulates."""

import asyncio
import time
from typing import Any

import pytest

from crew.errors import ConnectionError, ExpirationError
from crew.protocol import properties
from crew.protocol.encoding import codec
from crew.protocol.topology import Item
from crew.worker.execution.execution import Execution
from crew.worker.mailbox import Mailbox
from crew.worker.nested_calls.call import NestedCall
from crew.worker.nested_calls.caller import NestedCalls
from tests.support.deliveries import an_execution
from tests.support.links import FakeLink, ignored
from tests.support.waiting import until

OPTIONS: dict[str, Any] = {"priority": None, "expiration": None, "headers": None}


class SilentLink(FakeLink):
    """A link to a broker that does not confirm declarations."""

    async def declare(self, *items: Item) -> None:
        """As Link.declare."""
        await asyncio.sleep(60)


class RefusingLink(FakeLink):
    """A link to a broker that refuses the first declaration."""

    is_first = True

    async def declare(self, *items: Item) -> None:
        """As Link.declare."""
        if self.is_first:
            self.is_first = False
            raise ConnectionError("not now")
        await super().declare(*items)


class Tasks:
    """Makes nested calls."""

    def __init__(self, consuming: FakeLink | None = None) -> None:
        self.publishing, self.consuming = FakeLink(), consuming or FakeLink()
        self.nested = NestedCalls(
            "w",
            Mailbox(asyncio.get_running_loop()),
            publishing=self.publishing.as_link(),
            consuming=self.consuming.as_link(),
            decode=codec.decode,
            on_call=ignored,
        )

    def call(self, execution: Execution, **options: Any) -> NestedCall[Any]:
        """Call another task from a task."""
        execution.begin()
        return self.nested.call(execution, "inner", None, **{**OPTIONS, **options})

    async def sent(self) -> dict[str, Any]:
        """The headers of the call that was sent."""
        await until(lambda: self.publishing.published)
        return self.publishing.published[0].properties.headers or {}


@pytest.mark.gen_test
async def test_the_trace_headers_are_passed_on_and_others_are_not() -> None:
    tasks = Tasks()
    tasks.call(an_execution(headers={"traceparent": "00-1", "mine": "x"}))
    sent = await tasks.sent()
    assert sent["traceparent"] == "00-1"
    assert "mine" not in sent
    await tasks.nested.close()


@pytest.mark.gen_test
async def test_an_invalid_trace_header_of_another_client_is_left_out() -> None:
    """The task is not responsible for the headers of its call."""
    tasks = Tasks()
    tasks.call(an_execution(headers={"traceparent": b"\xff", "tracestate": "a=1"}))
    sent = await tasks.sent()
    assert "traceparent" not in sent
    assert sent["tracestate"] == "a=1"
    await tasks.nested.close()


@pytest.mark.gen_test
async def test_a_task_with_more_time_than_a_call_can_have_may_call_other_tasks() -> None:
    tasks = Tasks()
    tasks.call(an_execution(budget=1e12))
    assert (await tasks.sent())[properties.DEADLINE] > time.time() * 1000
    await tasks.nested.close()


@pytest.mark.gen_test
async def test_a_nested_call_ends_by_its_deadline_while_the_broker_does_not_answer() -> None:
    tasks = Tasks(SilentLink())
    call = tasks.call(an_execution(), expiration=0.1)
    begin = time.monotonic()
    with pytest.raises(ExpirationError, match="the broker could not be reached for task 'inner' in time"):
        await call
    assert time.monotonic() - begin < 0.6
    assert tasks.publishing.published == []
    await tasks.nested.close()


@pytest.mark.gen_test
async def test_a_refused_declaration_fails_the_call_that_needs_it_and_the_next_call_tries_again() -> None:
    tasks = Tasks(RefusingLink())
    with pytest.raises(ConnectionError, match="not now"):
        await tasks.call(an_execution())
    tasks.call(an_execution())
    await tasks.sent()
    await tasks.nested.close()


@pytest.mark.gen_test
async def test_after_its_own_timeout_result_waits_for_the_call_no_longer() -> None:
    """Else the error of a later interrupt would name a call for which the task no longer waits."""
    tasks = Tasks()
    execution = an_execution()
    call = tasks.call(execution)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(call.result, 0.01)
    assert execution.waits_for is None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call
    assert execution.waits_for is None
    await tasks.nested.close()

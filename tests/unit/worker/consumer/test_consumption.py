"""Prefetch of the queues, as requested and as the broker has it."""

import pytest

from crew.worker.consumer.consumption import PAUSED, Consumption
from tests.support.links import FakeLink, never


@pytest.mark.gen_test
async def test_each_queue_is_consumed_from_the_first_connection_on() -> None:
    link = FakeLink()
    Consumption(link.as_link(), {"a": 1, "b": 5}, never)
    assert {queue: consumer.prefetch for queue, consumer in link.consumers.items()} == {"a": 1, "b": 5}


@pytest.mark.gen_test
async def test_a_requested_prefetch_is_applied_at_the_broker() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1, "b": 1}, never)
    intake.set_prefetch("a", 5)
    intake.set_prefetch("b", PAUSED)
    await intake.wait_applied()
    assert (link.consumed, link.paused) == ([("a", 5)], ["b"])


@pytest.mark.gen_test
async def test_a_prefetch_that_is_already_set_sends_nothing() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    intake.set_prefetch("a", 1)
    await intake.wait_applied()
    assert link.consumed == []


@pytest.mark.gen_test
async def test_the_last_of_several_prefetch_requests_counts() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    for window in (5, PAUSED, 17):
        intake.set_prefetch("a", window)
    await intake.wait_applied()
    assert (link.consumed, link.paused) == ([("a", 17)], [])


@pytest.mark.gen_test
async def test_a_pause_ends_with_the_next_prefetch_request() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    intake.set_prefetch("a", PAUSED)
    await intake.wait_applied()
    intake.set_prefetch("a", 1)
    await intake.wait_applied()
    assert (link.paused, link.consumed) == (["a"], [("a", 1)])

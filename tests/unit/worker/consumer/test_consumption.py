"""Which queues a worker takes from."""

import pytest

from crew.worker.consumer.consumption import PAUSED, Consumption
from tests.support.links import FakeLink, never


@pytest.mark.gen_test
async def test_every_queue_is_consumed_from_the_first_connection_on() -> None:
    link = FakeLink()
    Consumption(link.as_link(), {"a": 1, "b": 5}, never)
    assert {queue: consumer.prefetch for queue, consumer in link.consumers.items()} == {"a": 1, "b": 5}


@pytest.mark.gen_test
async def test_what_is_wanted_becomes_so() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1, "b": 1}, never)
    intake.set_prefetch("a", 5)
    intake.set_prefetch("b", PAUSED)
    await intake.wait_applied()
    assert (link.consumed, link.paused) == ([("a", 5)], ["b"])


@pytest.mark.gen_test
async def test_what_is_so_already_costs_nothing() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    intake.set_prefetch("a", 1)
    await intake.wait_applied()
    assert link.consumed == []


@pytest.mark.gen_test
async def test_of_several_wishes_in_one_moment_the_last_counts() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    for window in (5, PAUSED, 17):
        intake.set_prefetch("a", window)
    await intake.wait_applied()
    assert (link.consumed, link.paused) == ([("a", 17)], [])


@pytest.mark.gen_test
async def test_a_pause_ends_when_something_is_wanted_again() -> None:
    link = FakeLink()
    intake = Consumption(link.as_link(), {"a": 1}, never)
    intake.set_prefetch("a", PAUSED)
    await intake.wait_applied()
    intake.set_prefetch("a", 1)
    await intake.wait_applied()
    assert (link.paused, link.consumed) == (["a"], [("a", 1)])

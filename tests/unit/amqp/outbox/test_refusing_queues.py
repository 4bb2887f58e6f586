"""The decision whether a refusing queue may have no leader."""

import pytest

from crew.amqp.outbox.refusing_queues import RefusingQueues
from tests.support.timers import FakeTimers

REFUSED_FOR, AFTER_CONFIRM = 5.0, 2.0


@pytest.fixture
def timers() -> FakeTimers:
    """The clock."""
    return FakeTimers()


@pytest.fixture
def queues(timers: FakeTimers) -> RefusingQueues:
    """The queues of a connection that was just opened."""
    return RefusingQueues(REFUSED_FOR, AFTER_CONFIRM, clock=timers.clock)


def test_a_queue_may_be_without_a_leader_for_a_while(queues: RefusingQueues, timers: FakeTimers) -> None:
    assert queues.may_have_no_leader("t")
    timers.advance(REFUSED_FOR - 0.1)
    assert queues.may_have_no_leader("t")
    timers.advance(0.1)
    assert not queues.may_have_no_leader("t")
    assert queues.may_have_no_leader("another")


def test_a_queue_that_left_a_call_unconfirmed_is_not_full(queues: RefusingQueues, timers: FakeTimers) -> None:
    """It has no leader, for as long as a majority of its nodes is down."""
    queues.on_unconfirmed("t")
    for _ in range(3):
        timers.advance(REFUSED_FOR)
        assert queues.may_have_no_leader("t")
    queues.on_confirmed("t")
    assert queues.may_have_no_leader("t")
    timers.advance(AFTER_CONFIRM)
    assert not queues.may_have_no_leader("t")


def test_a_queue_that_confirmed_a_call_counts_as_full_sooner(queues: RefusingQueues, timers: FakeTimers) -> None:
    queues.on_confirmed("t")
    assert queues.may_have_no_leader("t")
    timers.advance(AFTER_CONFIRM)
    assert not queues.may_have_no_leader("t")


def test_a_reconnect_resets_the_state_of_all_queues(queues: RefusingQueues, timers: FakeTimers) -> None:
    queues.on_confirmed("taken")
    queues.may_have_no_leader("refused")
    timers.advance(REFUSED_FOR)
    queues.on_reconnect()
    assert queues.may_have_no_leader("taken")
    assert queues.may_have_no_leader("refused")


def test_its_state_is_shown() -> None:
    queues = RefusingQueues(REFUSED_FOR, AFTER_CONFIRM, clock=FakeTimers().clock)
    queues.on_confirmed("taken")
    queues.may_have_no_leader("refusing")
    assert repr(queues) == "<RefusingQueues: 1 queues have confirmed, 1 refuse>"

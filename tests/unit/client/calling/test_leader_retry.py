"""The decision whether a refused call is retried."""

import pytest

from crew.client.calling.leader_retry import PATIENCE, PATIENCE_AFTER_CONFIRM, LeaderRetry


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of `leader_retry`."""
    return Clock()


@pytest.fixture
def leader_retry(clock: Clock) -> LeaderRetry:
    """The LeaderRetry of a client that has just connected."""
    return LeaderRetry(clock=clock)


def test_a_queue_may_be_without_a_leader_for_a_while(leader_retry: LeaderRetry, clock: Clock) -> None:
    assert leader_retry.should_retry("t")
    clock.now += PATIENCE - 0.1
    assert leader_retry.should_retry("t")
    clock.now += 0.1
    assert not leader_retry.should_retry("t")
    assert leader_retry.should_retry("another")


def test_a_queue_that_left_a_call_unconfirmed_is_not_full(leader_retry: LeaderRetry, clock: Clock) -> None:
    """It has no leader, for as long as a majority of its nodes is down."""
    leader_retry.on_unconfirmed("t")
    for _ in range(3):
        clock.now += PATIENCE
        assert leader_retry.should_retry("t")
    leader_retry.on_confirmed("t")
    assert leader_retry.should_retry("t")
    clock.now += PATIENCE_AFTER_CONFIRM
    assert not leader_retry.should_retry("t")


def test_a_queue_that_confirmed_a_call_is_retried_for_a_shorter_time(leader_retry: LeaderRetry, clock: Clock) -> None:
    leader_retry.on_confirmed("t")
    assert leader_retry.should_retry("t")
    clock.now += PATIENCE_AFTER_CONFIRM
    assert not leader_retry.should_retry("t")


def test_a_reconnect_resets_the_state_of_all_queues(leader_retry: LeaderRetry, clock: Clock) -> None:
    leader_retry.on_confirmed("taken")
    leader_retry.should_retry("refused")
    clock.now += PATIENCE
    leader_retry.on_reconnect()
    assert leader_retry.should_retry("taken")
    assert leader_retry.should_retry("refused")

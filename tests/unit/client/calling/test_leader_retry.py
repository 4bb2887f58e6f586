"""Whether a call that is refused is worth another try."""

import pytest

from crew.client.calling.leader_retry import PATIENCE, PATIENCE_ONCE_TAKEN, Elections


class Clock:
    """Says what the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of `elections`."""
    return Clock()


@pytest.fixture
def elections(clock: Clock) -> Elections:
    """Of a client that has just connected."""
    return Elections(clock=clock)


def test_a_queue_may_be_without_a_leader_for_a_while(elections: Elections, clock: Clock) -> None:
    assert elections.may_explain("t")
    clock.now += PATIENCE - 0.1
    assert elections.may_explain("t")
    clock.now += 0.1
    assert not elections.may_explain("t")
    assert elections.may_explain("another")


def test_a_queue_that_left_a_call_unconfirmed_is_not_full(elections: Elections, clock: Clock) -> None:
    """It has no leader, for as long as a majority of its nodes is down."""
    elections.on_timed_out("t")
    for _ in range(3):
        clock.now += PATIENCE
        assert elections.may_explain("t")
    elections.on_taken("t")
    assert elections.may_explain("t")
    clock.now += PATIENCE_ONCE_TAKEN
    assert not elections.may_explain("t")


def test_a_queue_that_has_taken_a_call_may_lose_its_leader_but_is_rather_full(
    elections: Elections, clock: Clock
) -> None:
    elections.on_taken("t")
    assert elections.may_explain("t")
    clock.now += PATIENCE_ONCE_TAKEN
    assert not elections.may_explain("t")


def test_after_a_reconnect_nothing_is_known(elections: Elections, clock: Clock) -> None:
    elections.on_taken("taken")
    elections.may_explain("refused")
    clock.now += PATIENCE
    elections.on_reconnect()
    assert elections.may_explain("taken")
    assert elections.may_explain("refused")

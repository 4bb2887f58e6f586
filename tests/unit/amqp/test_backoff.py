"""Delays between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from crew.amqp import backoff
from crew.amqp.backoff import SETTLED_AFTER, Backoff


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_broker_that_is_back_is_used_within_two_seconds(attempt: int, drawn: float) -> None:
    assert 0 < backoff.delay(attempt, draw=lambda: drawn) <= 1.0


def test_delays_double_up_to_the_longest() -> None:
    assert [backoff.delay(attempt, first=1, longest=10, draw=lambda: 1.0) for attempt in range(1, 7)] == [
        1,
        2,
        4,
        8,
        10,
        10,
    ]


def test_many_peers_do_not_reconnect_at_the_same_time() -> None:
    assert len({backoff.delay(5) for _ in range(100)}) > 50


@given(st.floats(0, 1))
def test_jitter_reduces_a_delay_by_at_most_half(drawn: float) -> None:
    assert 0.5 <= backoff.delay(1, first=1, longest=1, draw=lambda: drawn) <= 1


def test_the_first_delay_is_the_shortest() -> None:
    delays = Backoff()
    assert delays.next() <= backoff.FIRST < backoff.LONGEST / 2


def test_only_a_connection_that_lasts_resets_the_delay() -> None:
    now = 1_000.0
    delays = Backoff(clock=lambda: now)
    for _ in range(10):
        delays.on_ready()
        delay = delays.next()
    assert delay >= backoff.LONGEST / 2
    delays.on_ready()
    now += SETTLED_AFTER
    assert delays.next() <= backoff.FIRST

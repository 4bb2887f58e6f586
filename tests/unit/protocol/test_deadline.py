"""Durations and the instants made from them."""

from hypothesis import given
from hypothesis import strategies as st

from crew.duration import MAX_DURATION
from crew.protocol import deadline

durations = st.none() | st.floats(1e-3, 1e6)


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_the_time_left_is_never_negative(until: float, now: float) -> None:
    left = deadline.remaining(until, now)
    assert left >= 0
    assert (left == 0) == deadline.is_past(until, now)


def test_a_call_without_a_deadline_is_never_past_it() -> None:
    assert not deadline.is_past(None, 1e12)


def test_a_deadline_is_past_at_its_exact_instant() -> None:
    assert deadline.is_past(10.0, 10.0)
    assert not deadline.is_past(10.0, 9.999)


@given(st.lists(durations, max_size=3), st.none() | st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_earliest_limit_ends_an_execution(
    timeouts: list[float | None], until: float | None, started: float
) -> None:
    limit = deadline.run_limit(timeouts=tuple(timeouts), deadline=until, started=started)
    known = [started + timeout for timeout in timeouts if timeout is not None] + ([] if until is None else [until])
    if limit is None:
        assert not known
    else:
        assert limit in known
        assert all(limit <= one for one in known)


@given(st.floats(0, MAX_DURATION))
def test_the_broker_never_expires_a_call_before_the_client(expiration: float) -> None:
    ttl = deadline.broker_ttl_ms(expiration)
    assert ttl >= min(expiration * 1000, deadline.MAX_BROKER_TTL_MS)
    assert 0 < ttl < 2**32


def test_the_broker_expires_a_call_one_second_after_the_client() -> None:
    assert deadline.broker_ttl_ms(0.5) == 1_500
    assert deadline.broker_ttl_ms(60.0) == 61_000

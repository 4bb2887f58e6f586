"""The retry policy: when a call is run again after its task has raised."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew.protocol import topology
from crew.worker.retry_policy import LONGEST_DELAY, SHORTEST_DELAY, Retry, Verdict, check_retry

delays = st.floats(SHORTEST_DELAY, LONGEST_DELAY)
policies = st.builds(
    lambda retries, backoff: check_retry(retries, tuple(sorted(backoff)), (Exception,)),
    st.integers(1, 10**6),
    st.tuples(delays, delays),
)


def test_each_delay_is_twice_the_one_before_up_to_the_longest() -> None:
    retry = Retry(retries=9, backoff=(1.0, 10.0))
    assert [retry.delay_after(attempt) for attempt in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(policies, st.integers(1, 10**6))
@settings(deadline=None, max_examples=100)
def test_a_delay_has_whole_milliseconds(retry: Retry, attempt: int) -> None:
    delay = retry.delay_after(attempt)
    assert SHORTEST_DELAY <= delay <= LONGEST_DELAY
    assert abs(delay * 1000 - round(delay * 1000)) < 1e-6


@given(policies)
@settings(deadline=None, max_examples=100)
def test_a_task_needs_few_queues_for_its_delays(retry: Retry) -> None:
    names = {topology.delay_queue(round(retry.delay_after(attempt) * 1000))[0].name for attempt in range(1, 100)}
    assert len(names) <= 28


@pytest.mark.parametrize(
    ("error", "attempt", "budget", "verdict"),
    [
        (OSError(), 1, 60.0, 1.0),
        (OSError(), 2, 60.0, 2.0),
        (OSError(), 2, None, 2.0),
        (FileNotFoundError(), 1, 60.0, 1.0),  # an OSError
        (OSError(), 3, 60.0, None),
        (OSError(), 1, 1.001, 1.0),
        (OSError(), 1, 1.0, None),
        (KeyError(), 1, 60.0, None),
    ],
)
def test_a_call_is_retried_while_retries_and_time_remain(
    error: Exception, attempt: int, budget: float | None, verdict: float | None
) -> None:
    retry = Retry(retries=2, retry_on=(OSError, TimeoutError))
    deadline = None if budget is None else 1000.0 + budget
    assert retry.verdict(error, attempt=attempt, deadline=deadline, now=1000.0).delay == verdict


@given(policies, st.integers(1, 10**6), st.none() | st.floats(0, 1e6))
@settings(deadline=None, max_examples=100)
def test_no_call_is_retried_beyond_its_deadline_or_its_retries(
    retry: Retry, attempt: int, budget: float | None
) -> None:
    verdict = retry.verdict(ValueError(), attempt=attempt, deadline=budget, now=0.0)
    if verdict.delay is not None:
        assert attempt <= retry.retries
        assert budget is None or verdict.delay < budget


def test_the_final_error_says_how_many_attempts_there_were_and_why_no_other_follows() -> None:
    retry = Retry(retries=2)
    assert retry.verdict(OSError(), attempt=1, deadline=0.5, now=0.0) == Verdict(
        None, True, "attempt 1 of 3; no time for another"
    )
    assert retry.verdict(OSError(), attempt=2, deadline=None, now=0.0) == Verdict(
        2.0, True, "attempt 2 of 3; another could not be sent"
    )


def test_an_exception_outside_retry_on_mentions_the_attempts_only_after_a_retry() -> None:
    retry = Retry(retries=2, retry_on=(OSError,))
    assert retry.verdict(KeyError(), attempt=1, deadline=None, now=0.0) == Verdict(None, False, "")
    assert retry.verdict(KeyError(), attempt=2, deadline=None, now=0.0) == Verdict(None, False, "attempt 2 of 3")


def test_the_error_of_a_task_without_retries_does_not_mention_them() -> None:
    assert Retry().verdict(OSError(), attempt=1, deadline=None, now=0.0) == Verdict(None, False, "")


def test_attempts_before_a_reload_count_even_if_fewer_retries_are_allowed_after_it() -> None:
    verdict = Retry(retries=1).verdict(OSError(), attempt=3, deadline=None, now=0.0)
    assert verdict == Verdict(None, True, "attempt 3 of 3")


# --- invalid arguments -----------------------------------------------------------------------------------------------


def test_lists_and_whole_seconds_are_accepted() -> None:
    assert check_retry(3, [1, 60], [OSError]) == Retry(retries=3, backoff=(1.0, 60.0), retry_on=(OSError,))


@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_may_have_no_retries_or_one(retries: int) -> None:
    assert check_retry(retries, (1, 60), (OSError,)).retries == retries


@pytest.mark.parametrize("retries", [-1, 1.5, True, None, "3"])
def test_invalid_retries_are_a_value_error(retries: Any) -> None:
    with pytest.raises(ValueError, match="retries must be an int of 0 or more, not"):
        check_retry(retries, (1, 60), (OSError,))


@pytest.mark.parametrize(
    "backoff",
    [1, (1,), (1, 2, 3), (60, 1), (0, 60), (-1, 60), (0.0001, 1), (1, 86_401), ("x", "60"), (True, 60), None],
)
def test_an_invalid_backoff_is_a_value_error_with_an_example(backoff: Any) -> None:
    with pytest.raises(ValueError, match=r"backoff must be two durations.* like \(1, 60\) or .*, not"):
        check_retry(3, backoff, (OSError,))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_infinite_backoff_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="backoff"):
        check_retry(3, (1, number), (OSError,))


@pytest.mark.parametrize("retry_on", [OSError, (), (OSError(),), ("OSError",), None, {OSError}])
def test_an_invalid_retry_on_is_a_value_error_with_an_example(retry_on: Any) -> None:
    with pytest.raises(ValueError, match=r"retry_on must be a tuple of exception classes, like \(OSError,\), not"):
        check_retry(3, (1, 60), retry_on)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, BaseException, int])
def test_retry_on_accepts_no_base_exceptions(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"retry_on must name subclasses of Exception, and {kind.__name__} is none"):
        check_retry(3, (1, 60), (OSError, kind))

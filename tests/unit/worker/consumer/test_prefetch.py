"""Prefetch that follows the measured run time."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crew.worker.consumer.prefetch import AHEAD, SETTLED, Prefetch

durations = st.floats(1e-6, 100.0)


def after(prefetch: Prefetch, *seconds: float) -> int:
    """Prefetch after executions that took these times."""
    for one in seconds:
        prefetch.observe(one)
    return prefetch.window


@given(durations, st.integers(1, 16))
def test_nothing_is_fetched_ahead_before_the_task_is_known(seconds: float, slots: int) -> None:
    prefetch = Prefetch(slots)
    assert prefetch.window == slots
    assert after(prefetch, *[seconds] * (SETTLED - 1)) == slots


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(1.0, 0), (0.011, 0), (0.003, 0), (0.0025, 4), (0.001, 4), (0.0006, 16), (0.0001, 64)]
)
def test_about_ten_milliseconds_of_work_are_fetched_ahead(seconds: float, ahead: int) -> None:
    assert after(Prefetch(1), *[seconds] * 100) == 1 + ahead


def test_after_a_single_long_run_nothing_is_fetched_ahead() -> None:
    prefetch = Prefetch(1)
    assert after(prefetch, *[0.0001] * 100) == 65
    assert prefetch.observe(0.05) is True
    assert prefetch.window == 1


def test_deliveries_are_fetched_ahead_from_the_first_measured_runs_on() -> None:
    prefetch = Prefetch(1)
    assert repr(prefetch) == "<Prefetch 1: 0.000 ms an execution>"
    assert after(prefetch, *[0.0001] * SETTLED) == 65
    assert repr(prefetch) == "<Prefetch 65: 0.100 ms an execution>"


def test_the_repr_shows_the_typical_run_time() -> None:
    prefetch = Prefetch(1)
    after(prefetch, 12.0)
    assert repr(prefetch) == "<Prefetch 1: 12000.000 ms an execution>"


@pytest.mark.parametrize("seconds", [0.009, AHEAD])
def test_a_single_slower_run_that_is_not_long_changes_nothing(seconds: float) -> None:
    prefetch = Prefetch(1)
    after(prefetch, *[0.0001] * 100)
    assert prefetch.observe(seconds) is False
    assert prefetch.window == 65


def test_half_of_the_last_runs_decide() -> None:
    assert after(Prefetch(1), *[0.0001] * 3, *[0.0025] * 5) == 5
    assert after(Prefetch(1), *[0.0025] * 3, *[0.0001] * 5) == 65


def test_only_the_last_runs_count() -> None:
    assert after(Prefetch(1), *[0.0001] * 100, *[0.004] * SETTLED) == 1


def test_the_prefetch_is_reduced_when_only_half_of_it_is_allowed() -> None:
    prefetch = Prefetch(1)
    assert after(prefetch, *[0.0006] * SETTLED) == 17
    assert after(prefetch, *[AHEAD / 8] * SETTLED) == 17
    assert after(prefetch, *[AHEAD / 7] * SETTLED) == 5


@given(st.lists(durations, max_size=50), st.integers(1, 16))
def test_the_prefetch_never_exceeds_its_limit(runs: list[float], slots: int) -> None:
    prefetch = Prefetch(slots)
    for seconds in runs:
        before = prefetch.window
        assert prefetch.observe(seconds) == (prefetch.window != before)
        assert slots <= prefetch.window <= slots + 64
        if seconds > AHEAD:
            assert prefetch.window == slots


def test_a_run_time_near_a_threshold_does_not_change_the_prefetch_repeatedly() -> None:
    """Each change needs a new consumer at the broker."""
    prefetch = Prefetch(1)
    after(prefetch, *[0.0006] * 100)
    assert sum(prefetch.observe(0.0006 if number % 2 else 0.00066) for number in range(200)) <= 1


@given(st.lists(durations, max_size=50))
@example([0.0001] * SETTLED)
def test_a_fixed_prefetch_does_not_change(runs: list[float]) -> None:
    prefetch = Prefetch(1, fixed=7)
    assert [prefetch.observe(seconds) for seconds in runs] == [False] * len(runs)
    assert prefetch.window == 7


def test_a_fixed_prefetch_includes_the_running_calls() -> None:
    assert Prefetch(1, fixed=1).window == 1


def test_a_task_is_not_quick_before_enough_runs() -> None:
    prefetch = Prefetch(1)
    assert prefetch.is_quick is False
    after(prefetch, *[0.0001] * (SETTLED - 1))
    assert prefetch.is_quick is False
    prefetch.observe(0.0001)
    assert prefetch.is_quick


@pytest.mark.parametrize("fixed", [None, 7])
@pytest.mark.parametrize(("seconds", "quick"), [(0.0001, True), (AHEAD, True), (0.011, False), (1.0, False)])
def test_a_task_is_quick_if_it_ends_within_some_milliseconds(seconds: float, quick: bool, fixed: int | None) -> None:
    prefetch = Prefetch(1, fixed)
    after(prefetch, *[seconds] * 20)
    assert prefetch.is_quick is quick


def test_after_one_long_run_a_task_is_no_longer_quick() -> None:
    prefetch = Prefetch(1)
    after(prefetch, *[0.0001] * 20, 1.0)
    assert not prefetch.is_quick
    after(prefetch, *[0.0001] * SETTLED)
    assert prefetch.is_quick

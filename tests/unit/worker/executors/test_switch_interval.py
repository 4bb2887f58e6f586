"""Turns of threads are short only while that is needed."""

import sys
from collections.abc import Iterator

import pytest

from crew.worker.executors import switch_interval


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    """The interval of a user who has chosen his own; given back afterwards."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_turns_are_short_while_it_is_near_for_anybody(usual: float) -> None:
    first, second = object(), object()
    switch_interval.shorten(first, near=True)
    switch_interval.shorten(second, near=True)
    switch_interval.shorten(first, near=False)
    assert sys.getswitchinterval() == pytest.approx(switch_interval.SHORT)
    switch_interval.shorten(second, near=False)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_turns_that_are_shorter_already_stay_so() -> None:
    sys.setswitchinterval(0.0005)
    switch_interval.shorten(me := object(), near=True)
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    switch_interval.shorten(me, near=False)
    assert sys.getswitchinterval() == pytest.approx(0.0005)

"""Batches of inputs, and a look at the fleet after each."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.fleet import Fleet

BATCH = 50

T = TypeVar("T")


def storm(inputs: "st.SearchStrategy[T]", send: Callable[[T], object], fleet: Fleet, *, count: int) -> int:
    """Send so many inputs, and return how many; fail where the fleet does not go on as before.

    hypothesis only draws them: an input that makes a fleet fail does not fail it alone, so that nothing is shrunk.
    """
    alive = set(fleet.processes.alive())
    sent = 0
    failed: list[BaseException] = []

    @settings(
        max_examples=max(count // BATCH, 1),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(inputs, min_size=BATCH, max_size=BATCH))
    def batch(drawn: list[T]) -> None:
        nonlocal sent
        if failed:  # hypothesis tries again what has failed, and the fleet is another one by now
            raise failed[0]
        try:
            for one in drawn:
                send(one)
            sent += len(drawn)
            fleet.serves()
            fleet.check(sent)
        except BaseException as error:
            failed.append(error)
            raise

    batch()
    assert set(fleet.processes.alive()) == alive
    return sent

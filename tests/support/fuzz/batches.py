"""Batches of inputs, and a look at the fleet after each."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.fuzz.fleet import Fleet

# The client's thread draws delays from the module `random`, at times while a strategy is drawn in this one.
OTHER_THREADS = "ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning"
BATCH = 100  # inputs between two looks

T = TypeVar("T")


def storm(inputs: "st.SearchStrategy[T]", send: Callable[[T], object], fleet: Fleet, *, count: int) -> None:
    """Send so many inputs; fail where the fleet does not go on as before.

    hypothesis only draws them: an input that makes a fleet fail does not fail it alone, so that nothing is shrunk.
    """
    alive = set(fleet.processes.alive())
    sent = 0
    failed: list[BaseException] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def one_more(drawn: T) -> None:
        nonlocal sent
        if failed:  # hypothesis tries again what has failed, and the fleet is another one by now
            raise failed[0]
        try:
            send(drawn)
            sent += 1
            if sent % BATCH == 0:
                fleet.serves()
                fleet.check(sent)
        except BaseException as error:
            failed.append(error)
            raise

    one_more()
    assert sent > 0.9 * count, "hypothesis draws some inputs in vain, but few"
    assert set(fleet.processes.alive()) == alive

"""Sends batches of inputs to the fleet, and checks the fleet after each batch."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.fuzz.fleet import Fleet

# The client's thread may use the module `random` while this thread draws from a strategy.
OTHER_THREADS = "ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning"
BATCH = 100  # inputs between two checks

T = TypeVar("T")


def storm(inputs: "st.SearchStrategy[T]", send: Callable[[T], object], fleet: Fleet, *, count: int) -> None:
    """Send `count` inputs; fails if the fleet does not work as before.

    hypothesis only draws the inputs. It cannot shrink a failing one, as the failure depends on the inputs before it.
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
    def send_one(drawn: T) -> None:
        nonlocal sent
        if failed:  # hypothesis repeats a failed input, but the fleet has changed
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

    send_one()
    assert sent > 0.9 * count, "hypothesis may discard some inputs, but few"
    assert set(fleet.processes.alive()) == alive

"""The budget of a body that is decoded in pieces: exact limits, rests for other threads, and what is freed."""

import gc
import itertools
import types
from typing import Any

import pytest

from crew.errors import SerializationError
from crew.protocol.encoding import limits
from crew.protocol.encoding.limits import DEFAULT, ELEMENT, FREED_AT_ONCE, REST_AFTER, Budget, Limits, width

LIMITS = Limits(elements=10, depth=3, memory=2_000)


class Rests:
    """A clock that a test turns, and the seconds of each sleep. The clock goes on while it sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += 0.5


def test_elements_are_taken_up_to_the_limit() -> None:
    budget = Budget(LIMITS)
    budget.take(4)
    assert (budget.elements, budget.depth) == (6, 3)
    assert budget.has(6)
    assert not budget.has(7)
    budget.take(6)
    assert budget.has(0)
    with pytest.raises(SerializationError) as refused:
        budget.take(1)
    assert str(refused.value) == "the body has more than 10 elements, which is the limit here (CREW_MAX_ELEMENTS)"


def test_memory_is_taken_by_elements_and_text_up_to_the_limit() -> None:
    budget = Budget(LIMITS)
    budget.take(4, 600)
    budget.take(1)
    rest = LIMITS.memory - 5 * ELEMENT - 600
    assert budget.has(0, rest)
    assert not budget.has(0, rest + 1)
    assert budget.has(2, rest - 2 * ELEMENT)
    assert not budget.has(2, rest - 2 * ELEMENT + 1)
    budget.take(0, rest - ELEMENT)
    assert budget.has(1)
    assert not budget.has(2)
    budget.take(1)
    with pytest.raises(SerializationError) as refused:
        budget.take(0, 1)
    assert str(refused.value) == (
        "the body would take more than 2000 bytes of memory once it is decoded, which is the limit here "
        "(CREW_MAX_MEMORY)"
    )


def test_a_body_that_is_too_deep_is_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match=r"^it is nested more than 3 levels deep.*\(CREW_MAX_DEPTH\)$"):
        Budget(LIMITS).refuse_depth()


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 1), ("plain", 1), ("é", 2), ("plain €", 2), ("\uffff", 2), ("\U00010000", 4), ("é\U0001f600", 4)],
)
def test_the_width_of_a_text_is_that_of_its_widest_character(text: str, size: int) -> None:
    assert width(text.encode()) == size


def test_other_threads_may_run_after_a_millisecond() -> None:
    rests = Rests()
    budget = Budget(DEFAULT, clock=rests.clock, sleep=rests.sleep)
    budget.rest()
    rests.now += REST_AFTER
    budget.rest()
    assert rests.sleeps == []
    for count in (1, 2):
        rests.now += REST_AFTER * 1.1
        budget.rest()
        budget.rest()
        assert rests.sleeps == [0] * count


def test_a_refused_body_is_freed_and_its_error_raised() -> None:
    outer: list[Any] = [[1]]
    inner: dict[str, Any] = {"a": 1}
    refusal = SerializationError("refused")

    def value() -> Any:
        raise refusal

    decoding: Any = types.SimpleNamespace(
        stack=[types.SimpleNamespace(value=one) for one in (outer, inner)], value=value
    )
    with pytest.raises(SerializationError) as raised:
        Budget(DEFAULT).value_of(decoding)
    assert raised.value is refusal
    assert (outer, inner) == ([], {})


def test_the_value_of_a_body_is_kept() -> None:
    decoding: Any = types.SimpleNamespace(stack=[], value=lambda: [1, [2]])
    assert Budget(DEFAULT).value_of(decoding) == [1, [2]]


@pytest.mark.parametrize("is_map", [False, True])
@pytest.mark.parametrize("is_inner_map", [False, True])
def test_all_containers_are_freed_whatever_they_are_in(is_map: bool, is_inner_map: bool) -> None:
    """Bit by bit: the collector of cycles is not involved."""
    leaf: list[Any] = [1, "text"]
    inner: Any = {"leaf": leaf} if is_inner_map else [leaf]
    outer: Any = {"a": "text", "b": inner} if is_map else ["text", inner]
    beside: list[Any] = [2]
    Budget(DEFAULT).free(iter([outer, [beside]]))
    assert not any((leaf, inner, outer, beside))


def test_other_threads_may_run_while_many_containers_are_freed() -> None:
    """Each time after so many that it takes less than a millisecond."""
    arrays = [[1] for _ in range(3 * FREED_AT_ONCE)]
    left: list[int] = []
    budget = Budget(
        DEFAULT,
        clock=itertools.count(0, 2 * REST_AFTER).__next__,
        sleep=lambda seconds: left.append(sum(map(len, arrays))),
    )
    budget.free(arrays)
    assert left == [2 * FREED_AT_ONCE, FREED_AT_ONCE, 0]


def test_frozen_objects_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [limits.FROZEN_BY_PYTHON, 0]
    monkeypatch.setattr(limits, "_are_frozen", False)
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counts.pop(0))
    for _ in range(3):
        with limits.without_collection():
            pass
    assert counts == [0]

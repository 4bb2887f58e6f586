"""Numbers that were chosen to collide in a set are refused; all others are not."""

import dataclasses
import decimal
import random
import uuid
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from crew.errors import InvalidArguments, SerializationError
from crew.signatures.collisions import FEW, are_possible
from crew.signatures.signature import signature_of

PRIME = 2**61 - 1  # Python's hash of an int is its remainder
MANY = 3000


class Model(pydantic.BaseModel):
    ids: set[uuid.UUID]


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


@pytest.mark.parametrize(
    ("kind", "colliding", "harmless"),
    [
        (set[int], lambda n: n * PRIME, lambda n: n),
        (frozenset[uuid.UUID], lambda n: str(uuid.UUID(int=n * PRIME)), lambda n: str(uuid.UUID(int=n << 64))),
        (set[decimal.Decimal], lambda n: str(n * PRIME), lambda n: f"{n}.5"),
        (set[tuple[int, str]], lambda n: [n * PRIME, "a"], lambda n: [n, "a"]),
        (set[Point], lambda n: {"x": n * PRIME}, lambda n: {"x": n}),
        (set[float], lambda n: n * PRIME, lambda n: n / 3),
        (set, lambda n: n * PRIME, lambda n: n),
    ],
    ids=["set[int]", "frozenset[UUID]", "set[Decimal]", "set[tuple]", "set[Point]", "set[float]", "set"],
)
def test_members_that_collide_are_refused_and_others_are_not(
    kind: Any, colliding: Callable[[int], Any], harmless: Callable[[int], Any]
) -> None:
    def count(values: Any, *, inside: Any = None) -> None: ...

    count.__annotations__ = {"values": kind, "inside": dict[str, list[kind]] | None}
    signature = signature_of("t", count)
    chosen = [colliding(n) for n in range(1, MANY)]
    for args, kwargs in [((chosen,), {}), (([],), {"inside": {"a": [chosen]}})]:
        with pytest.raises(InvalidArguments, match="task 't': the members of an array or object in it collide"):
            signature.bind(args, kwargs)
    (found, *_), _ = signature.bind([[harmless(n) for n in range(1, MANY)]], {})
    assert len(found) == MANY - 1
    signature.bind([chosen[:FEW]], {})
    signature.bind([[harmless(1)] * MANY], {})


def test_keys_that_collide_are_refused() -> None:
    def count(numbers: dict[int, int]) -> None: ...
    def load() -> dict[uuid.UUID, int]:
        return {}

    with pytest.raises(InvalidArguments, match="collide"):
        signature_of("t", count).bind_payload({str(n * PRIME): n for n in range(MANY)})
    with pytest.raises(SerializationError, match="the value of task 't' cannot be read: the members"):
        signature_of("t", load).read_result({str(uuid.UUID(int=n * PRIME)): n for n in range(MANY)})
    draw = random.Random(7)
    numbers = {str(draw.getrandbits(64)): 1 for _ in range(MANY)}
    (found,), _ = signature_of("t", count).bind_payload(numbers)
    assert found.keys() == set(map(int, numbers))


def test_a_set_in_a_model_of_pydantic_is_checked() -> None:
    def count(model: Model) -> None: ...

    with pytest.raises(InvalidArguments, match="collide"):
        signature_of("t", count).bind_payload({"ids": [str(uuid.UUID(int=n * PRIME)) for n in range(MANY)]})


@pytest.mark.parametrize("kind", [int, list[int], dict[str, int], set[str], dict[str, list[uuid.UUID]]], ids=str)
def test_annotations_without_sets_of_numbers_cost_nothing(kind: Any) -> None:
    assert not are_possible(kind)

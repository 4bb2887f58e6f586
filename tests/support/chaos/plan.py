"""The random calls of the chaos test: the same for the same seed."""

import random
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

EXECUTORS: Final = {"main": 28, "thread": 32, "async": 40}  # of a hundred calls
QUICKER: Final = 0.35  # factor for the work of calls in the main thread executor, which has the fewest slots
KINDS: Final = {"quick": 12, "nap": 40, "block": 16, "spin": 10, "swallow": 10, "shielded": 6, "fail": 5.3, "die": 0.2}
STUBBORN: Final = 0.5  # of a hundred calls in the main thread executor: each costs a process
SECONDS: Final = {(0.02, 0.1): 50, (0.1, 0.4): 38, (0.4, 1.1): 12}  # running time of a task, and its share
CANCELS: Final = {None: 84, "call": 8, "task": 8}
CANCEL_AFTER: Final = (0.0, 1.0)  # seconds
CANCELED_SECONDS: Final = (0.1, 3.0)  # long enough to detect a canceled call that starts, or does not stop
CANCELED_EXPIRATION: Final = (2.5, 4.5)


class Planned(msgspec.Struct, frozen=True):
    """A planned call.

    Attributes:
        executor: main, thread or async: the name of its task.
        kind: what the task does.
        seconds: running time of the task.
        cancel: "call": by `call.cancel()`; "task": by canceling the asyncio task that awaits it; None: not canceled.
        cancel_after: seconds.
    """

    id: str
    executor: str
    kind: str
    seconds: float
    expiration: float
    timeout: float | None
    priority: int
    persistent: bool
    cancel: str | None
    cancel_after: float

    @property
    def is_interruptible(self) -> bool:
        """Whether the task ends at an interrupt, or at least sees it; false for a thread in one blocking call."""
        return self.kind != "stubborn" and not self.is_zombie

    @property
    def is_zombie(self) -> bool:
        """Whether the task goes on without its slot after its grace: a thread in one blocking call."""
        return self.executor == "thread" and self.kind == "block"


def plan(seed: int, count: int, *, prefix: str) -> Sequence[Planned]:
    """Plan `count` calls."""
    dice = random.Random(seed)
    return [_one(dice, f"{prefix}{number}") for number in range(count)]


def _one(dice: random.Random, id: str) -> Planned:
    executor, cancel = _pick(dice, EXECUTORS), _pick(dice, CANCELS)
    kind = "stubborn" if executor == "main" and dice.random() < STUBBORN / 100 else _pick(dice, KINDS)
    seconds = dice.uniform(*_pick(dice, SECONDS)) * (QUICKER if executor == "main" else 1)
    expiration = max(0.2, seconds * dice.uniform(0.8, 1.6) + dice.choice([0.0, dice.uniform(0, 2)]))
    if cancel is not None:
        seconds, expiration = dice.uniform(*CANCELED_SECONDS), dice.uniform(*CANCELED_EXPIRATION)
    return Planned(
        id=id,
        executor=executor,
        kind=kind,
        seconds=seconds,
        expiration=expiration,
        timeout=dice.choice([None, seconds * dice.uniform(0.7, 2)]),
        priority=dice.randrange(256),
        persistent=dice.random() < 0.6,
        cancel=cancel,
        cancel_after=dice.uniform(*CANCEL_AFTER),
    )


def _pick(dice: random.Random, weights: Mapping[T, float]) -> T:
    return dice.choices(list(weights), list(weights.values()))[0]

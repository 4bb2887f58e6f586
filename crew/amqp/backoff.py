"""Delay before a reconnect: it doubles up to a limit, with jitter so that many peers do not reconnect at once."""

import random
from collections.abc import Callable
from typing import Final

from crew.clock import monotonic_time

FIRST: Final = 0.1  # seconds
LONGEST: Final = 1.0  # seconds: a broker that is back is used within 2 seconds, also on a busy machine
SETTLED_AFTER: Final = 5.0  # seconds: a connection that breaks sooner counts as one more failed attempt


class Backoff:
    """The reconnect delays of one link.

    Args:
        clock: monotonic seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_time) -> None:
        self._clock = clock
        self._failed = 0
        self._ready_at: float | None = None

    def __repr__(self) -> str:
        return f"<Backoff after {self._failed} failed attempts>"

    def on_ready(self) -> None:
        """The link is connected."""
        self._ready_at = self._clock()

    def next(self) -> float:
        """Return the seconds to wait before the next attempt, after a lost connection or a failed attempt."""
        ready_at, self._ready_at = self._ready_at, None
        if ready_at is not None and self._clock() - ready_at >= SETTLED_AFTER:
            self._failed = 0
        self._failed += 1
        return delay(self._failed)


def delay(
    attempt: int, *, first: float = FIRST, longest: float = LONGEST, draw: Callable[[], float] = random.random
) -> float:
    """Return the seconds to wait before attempt number `attempt`, counted from 1: 50 to 100 % of the limit."""
    bound = min(longest, first * 2.0 ** min(attempt - 1, 32))
    return bound * (0.5 + 0.5 * draw())

"""How long to wait before an attempt: doubling, bounded, with jitter so that many peers do not come back at once."""

import random
from collections.abc import Callable
from typing import Final

FIRST: Final = 0.1  # seconds
LONGEST: Final = 1.0  # seconds: a broker that is back is used within 2, on a busy machine too


def delay(
    attempt: int, *, first: float = FIRST, longest: float = LONGEST, draw: Callable[[], float] = random.random
) -> float:
    """Seconds to wait before attempt number `attempt`, counted from 1: between half and all of the bound."""
    bound = min(longest, first * 2.0 ** min(attempt - 1, 32))
    return bound * (0.5 + 0.5 * draw())

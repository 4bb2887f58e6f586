"""The time of this process, looked up at each call: `crew.testing` replaces the functions of `time` during a test.

A default argument like `clock: Callable[[], float] = time.monotonic` would keep the real function for ever.
"""

import time


def monotonic_time() -> float:
    """Seconds of a clock that is never set: see time.monotonic."""
    return time.monotonic()


def wall_time() -> float:
    """Epoch seconds: see time.time."""
    return time.time()

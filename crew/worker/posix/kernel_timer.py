"""The kernel timer of the process: its signal comes also while the I/O thread waits for its turn."""

import signal
import time
from typing import Final

ALARM: Final = signal.SIGALRM
LONGEST: Final = 86_400.0  # seconds; the kernel's own bound is lower than what a foreign message may ask for


def ring_by(limit: float | None) -> None:
    """Have the kernel send ALARM by `limit` (time.monotonic()); who handles it looks at the clock, and sets it again.

    An alarm that rings earlier is left alone. The kernel is asked for that: a task may have stopped it, or moved it.
    """
    if limit is None:
        return
    now = time.monotonic()
    left, _ = signal.getitimer(signal.ITIMER_REAL)  # seconds; 0.0 where it is not set
    if not left or limit < now + left:
        signal.setitimer(signal.ITIMER_REAL, min(max(limit - now, 1e-6), LONGEST))

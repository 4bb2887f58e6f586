"""Pauses of the main thread, so that the I/O thread runs while a task burns CPU and lets nobody else run.

A regular expression or huge integers keep the GIL for as long as they take, but they look for signals.
"""

import signal
import time
from typing import Final

from crew.worker.posix import signal_handlers

PAUSE: Final = signal.SIGVTALRM
PAUSE_EVERY: Final = 0.1  # seconds of CPU time: a tenth of what anybody waits for at the other threads


def begin() -> None:
    """Pause the main thread from now on; call it there."""
    signal_handlers.install(PAUSE, _pause)
    signal.siginterrupt(PAUSE, False)
    signal.setitimer(signal.ITIMER_VIRTUAL, PAUSE_EVERY, PAUSE_EVERY)


def _pause(_signal: int, _frame: object) -> None:
    """Let the I/O thread run, where it waits for that."""
    time.sleep(0)

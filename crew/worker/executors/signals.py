"""Signals of the main thread: the kernel timer of a limit, the interrupt by the I/O thread, and pauses from the GIL."""

import signal
import threading
import time
from typing import Final

from crew.worker.posix import signal_handlers

ALARM: Final = signal.SIGALRM  # of the kernel timer; it comes also while the I/O thread waits for the GIL
LONGEST_ALARM: Final = 86_400.0  # seconds; the kernel's own bound is lower than what a foreign message may ask for

# The I/O thread interrupts the main thread with a signal of its own, so that a task may use SIGALRM itself.
INTERRUPT: Final[int] = signal.SIGRTMIN + 6 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR1  # macOS has no SIGRTMIN

GIL_PAUSE: Final = signal.SIGVTALRM
GIL_PAUSE_INTERVAL: Final = 0.1  # seconds of CPU time: a tenth of the delay that other threads can bear

SIGNALS: Final = (ALARM, INTERRUPT, GIL_PAUSE)


def set_alarm(limit: float | None) -> None:
    """Have the kernel send ALARM at `limit` (time.monotonic()) at the latest; the handler must look at the clock.

    An earlier alarm stays. The kernel is asked for the current one each time: a task may have stopped or changed it.
    """
    if limit is None:
        return
    now = time.monotonic()
    left, _ = signal.getitimer(signal.ITIMER_REAL)  # seconds; 0.0 if it is not set
    if not left or limit < now + left:
        signal.setitimer(signal.ITIMER_REAL, min(max(limit - now, 1e-6), LONGEST_ALARM))


def interrupt_main_thread() -> None:
    """Have the handler of INTERRUPT called in the main thread, now.

    The signal is sent to both threads: to the main thread, because it ends a blocking call there; and to the calling
    one, because a task may have blocked the signal in its own. Python runs the handler in the main thread either way.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)
    signal.raise_signal(INTERRUPT)


def start_gil_pauses() -> None:
    """Pause the main thread regularly, so that the I/O thread runs while a task does not release the GIL.

    A regular expression or a computation with huge integers keeps the GIL until it ends, but checks for signals.
    Called in the main thread.
    """
    signal_handlers.install(GIL_PAUSE, _pause)
    signal.siginterrupt(GIL_PAUSE, False)
    signal.setitimer(signal.ITIMER_VIRTUAL, GIL_PAUSE_INTERVAL, GIL_PAUSE_INTERVAL)


def _pause(_signal: int, _frame: object) -> None:
    """Release the GIL, for the I/O thread if it waits for it."""
    time.sleep(0)

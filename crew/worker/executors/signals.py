"""The signal with which the I/O thread interrupts the main one: a task that uses SIGALRM itself does not meet it."""

import signal
import threading
from typing import Final

STRIKE: Final[int] = signal.SIGRTMIN + 6 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR1  # macOS has no SIGRTMIN


def strike() -> None:
    """Have the handler of STRIKE called in the main thread, now.

    The signal goes to both threads: to the main one, since it ends what blocks there; and to this one, since a task may
    have blocked signals in its own. Python runs the handler in the main thread in either case.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, STRIKE)
    signal.raise_signal(STRIKE)

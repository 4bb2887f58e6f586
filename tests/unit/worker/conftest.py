"""What lanes take of the process, given back after each test."""

import signal
from collections.abc import Iterator

import pytest

from crew.worker.main_lane import SIGNALS


@pytest.fixture
def signals() -> Iterator[None]:
    """For tests whose lane has the main thread: its timers, handlers and mask are given back."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)

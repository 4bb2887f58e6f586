"""What lanes take of the process, given back after each test."""

import signal
import sys
from collections.abc import Iterator

import pytest

from crew.worker.executors import switch_interval
from crew.worker.executors.main_thread import SIGNALS
from crew.worker.posix import signal_handlers


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
        # A signal that is still on its way, from a thread that was about to send it, would end the test run.
        signal.signal(number, signal_handlers.do_nothing if handler is signal.SIG_DFL else handler)


@pytest.fixture(autouse=True)
def _turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody is in a hurry: what is left of a watchdog that was never stopped is forgotten."""
    monkeypatch.setattr(switch_interval, "_hurrying", set())
    usual = sys.getswitchinterval()
    yield
    sys.setswitchinterval(usual)

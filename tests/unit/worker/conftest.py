"""Restores, after each test, what executors change in the process: signals, timers, switch interval."""

import signal
import sys
from collections.abc import Iterator

import pytest

from crew.worker.executors import watchdog
from crew.worker.executors.signals import SIGNALS
from crew.worker.posix import signal_handlers


@pytest.fixture
def signals() -> Iterator[None]:
    """For tests of an executor in the main thread: restores its timers, handlers and signal mask."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in handlers.items():
        # A signal that another thread sends only now would otherwise kill the test run.
        signal.signal(number, signal_handlers.do_nothing if handler is signal.SIG_DFL else handler)


@pytest.fixture(autouse=True)
def _switch_interval(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets the watchdogs that a test did not stop, and restores the switch interval."""
    monkeypatch.setattr(watchdog, "_near_limit", set())
    usual = sys.getswitchinterval()
    yield
    sys.setswitchinterval(usual)

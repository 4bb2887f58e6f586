"""`CancelToken`, the value of `context.canceled`, which a signal handler may set."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from crew.worker.execution.interrupt import CancelToken


@pytest.fixture
def usr1() -> Iterator[None]:
    """Restores the handler of SIGUSR1 after the test."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_it_is_not_set_before_it_is_set() -> None:
    token = CancelToken()
    assert token.is_set() is False
    assert token.wait(0.001) is False
    assert repr(token) == "<CancelToken: not set>"


def test_once_set_it_stays_set() -> None:
    token = CancelToken()
    token.set()
    token.set()
    assert [token.wait(), token.wait(0), token.is_set()] == [True] * 3
    assert repr(token) == "<CancelToken: set>"


def test_a_waiting_thread_is_woken_at_once() -> None:
    token = CancelToken()
    threading.Timer(0.02, token.set).start()
    begin = time.monotonic()
    assert token.wait(5) is True
    assert time.monotonic() - begin < 1


def test_all_waiting_threads_are_woken() -> None:
    token = CancelToken()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(token.wait(5))) for _ in range(5)]
    for thread in threads:
        thread.start()
    token.set()
    for thread in threads:
        thread.join(5)
    assert woken == [True] * 5


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5])
def test_a_wait_of_no_time_returns_at_once(timeout: float) -> None:
    """As with `threading.Event`: `context.canceled.wait(until - time.monotonic())` may be called late."""
    assert CancelToken().wait(timeout) is False


def test_a_signal_handler_may_set_it_while_its_own_thread_checks_it_or_waits(usr1: None) -> None:
    """`threading.Event` holds a lock while it is checked: its thread would wait for itself for ever."""
    current = CancelToken()
    signal.signal(signal.SIGUSR1, lambda *_: current.set())
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(50):
            current = CancelToken()
            while not current.is_set():
                current.wait(0.0001)
            assert current.wait(5) is True
    finally:
        stop.set()
        disturber.join(5)

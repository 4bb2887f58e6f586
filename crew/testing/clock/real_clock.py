"""The real time, with shorter durations: for tests with a RabbitMQ."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

SCALE: Final = 0.01  # 60 s become 0.6 s

_real_sleep: Final = time.sleep


class RealClock:
    """The real time.

    Args:
        scale: factor of `scaled`; default 0.01.
    """

    def __init__(self, *, scale: float = SCALE) -> None:
        self._scale = scale

    def __repr__(self) -> str:
        return f"<RealClock: scale {self._scale:g}>"

    def monotonic(self) -> float:
        """Seconds, as time.monotonic."""
        return time.monotonic()

    def time(self) -> float:
        """Epoch seconds, as time.time."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for `scaled(seconds)`."""
        _real_sleep(self.scaled(seconds))

    def scaled(self, seconds: float) -> float:
        """The duration in real seconds."""
        return seconds * self._scale

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing."""

    def enlist(self, thread: threading.Thread) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def add_probe(self, is_busy: Callable[[], bool]) -> None:
        """Do nothing."""

    def remove_probe(self, is_busy: Callable[[], bool]) -> None:
        """Do nothing."""

    def sleeps(self, thread: threading.Thread | None) -> bool:
        """False."""
        return False

    def wake(self, thread: threading.Thread | None) -> None:
        """Do nothing."""

    def install(self) -> None:
        """Shorten `time.sleep` in tasks by the scale."""
        if self._scale != 1:
            time.sleep = self._sleep_here  # type: ignore[assignment]

    def uninstall(self) -> None:
        """Restore it."""
        time.sleep = _real_sleep

    def _sleep_here(self, seconds: float) -> None:
        from crew.worker.execution.execution import current_execution

        _real_sleep(seconds if current_execution.get() is None else self.scaled(seconds))

"""A clock and timers that the test moves on."""

import asyncio
from collections.abc import Callable
from typing import Any, cast


class FakeTimer:
    """A timer that has not run yet."""

    def __init__(self, when: float, step: Callable[..., object], given: tuple[Any, ...]) -> None:
        self.when = when
        self.is_canceled = False
        self._step = step
        self._given = given

    def cancel(self) -> None:
        """As TimerHandle.cancel."""
        self.is_canceled = True

    def run(self) -> None:
        """Run its step."""
        self._step(*self._given)


class FakeTimers:
    """A clock, as `time.monotonic`, with timers, as `loop.call_later`.

    Attributes:
        now: seconds of the clock.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[FakeTimer] = []

    def clock(self) -> float:
        """The present time."""
        return self.now

    def call_later(self, seconds: float, step: Callable[..., object], *given: Any) -> asyncio.TimerHandle:
        """As `loop.call_later`."""
        timer = FakeTimer(self.now + seconds, step, given)
        self._timers.append(timer)
        return cast(asyncio.TimerHandle, timer)

    @property
    def waits(self) -> list[float]:
        """Seconds until each timer runs, the first one first."""
        return sorted(round(timer.when - self.now, 6) for timer in self._timers if not timer.is_canceled)

    def advance(self, seconds: float) -> None:
        """Move the clock on, and run the timers that are due, each at its time."""
        until = self.now + seconds
        while due := [timer for timer in self._timers if timer.when <= until + 1e-9 and not timer.is_canceled]:
            first = min(due, key=lambda timer: timer.when)
            self._timers.remove(first)
            self.now = max(self.now, first.when)
            first.run()
        self.now = until

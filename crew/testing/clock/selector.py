"""The selector of an event loop whose time is that of a test's clock."""

import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Events = list[tuple[selectors.SelectorKey, int]]


class JumpingClock(Protocol):
    """The clock, as a selector sees it."""

    def monotonic(self) -> float:
        """Its time in seconds."""

    def wait_for_events(
        self, until: float | None, poll: Callable[[], bool], wake: Callable[[], None], block: Callable[[float], Any]
    ) -> None:
        """Wait until `poll` is True or the time is `until`."""


class ClockSelector(selectors.BaseSelector):
    """Wraps the selector of a loop: it waits for events until the clock has reached the loop's next timer.

    Args:
        real: the selector of the loop.
    """

    def __init__(self, real: selectors.BaseSelector, clock: JumpingClock) -> None:
        self._real = real
        self._clock = clock
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)
        real.register(self._woken, selectors.EVENT_READ)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors."""
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """See selectors."""
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors."""
        return self._real.get_key(fileobj)

    def close(self) -> None:
        """See selectors."""
        self._real.close()
        self._waking.close()
        self._woken.close()

    def select(self, timeout: float | None = None) -> Events:
        """Return the events that are there, else wait: `timeout` is one of the clock."""
        events = self._events(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        until = None if timeout is None else self._clock.monotonic() + timeout
        self._clock.wait_for_events(until, self._has_events, self._wake, self._real.select)
        return self._events(0)

    def _events(self, timeout: float) -> Events:
        events = self._real.select(timeout)
        if any(key.fileobj is self._woken for key, _ in events):
            self._woken.recv(4096)
            events = [event for event in events if event[0].fileobj is not self._woken]
        return events

    def _has_events(self) -> bool:
        return any(key.fileobj is not self._woken for key, _ in self._real.select(0))

    def _wake(self) -> None:
        try:
            self._waking.send(b"\0")
        except OSError:  # it is full: the thread will wake up; or closed
            return

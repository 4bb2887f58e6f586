"""Time that passes only when nothing else can happen: an hour of waiting takes milliseconds.

Each thread that takes part is busy or waits. A thread waits in the select of its event loop, in `time.sleep`, or for a
`concurrent.futures.Future`. When all of them wait, and nothing that they wait for has happened, the clock jumps to the
first instant at which one of them would go on. So a timeout of 60 s is over at once, but never before a reply that is
on its way.

`install` replaces `time.time`, `time.monotonic`, `time.sleep` and `Future.result` until `uninstall`. One clock is
installed at a time in a process. `time.perf_counter` stays real, as does what other code has imported by
`from time import ...` before.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from crew.testing.clock.contract import Clock, Hang
from crew.testing.clock.selector import ClockSelector
from crew.testing.clock.stacks import report
from crew.worker.execution.execution import current_execution
from crew.worker.execution.interrupt import CancelToken

__all__ = ["Clock", "Hang", "VirtualClock"]

HANG_AFTER: Final = 30.0  # real seconds of a whole test
DEADLOCK_AFTER: Final = 1.0  # real seconds without an event, a timer or a thread that runs
_LOOK_AGAIN: Final = 0.02  # real seconds: a thread that waits looks whether others wait too

_real_monotonic: Final = time.monotonic
_real_time: Final = time.time
_real_sleep: Final = time.sleep
_real_result: Final = concurrent.futures.Future.result
_real_token_wait: Final = CancelToken.wait
_real_loop_time: Final = asyncio.BaseEventLoop.time

_installed: "list[VirtualClock]" = []  # at most one


class Wait:
    """What a thread waits for.

    Args:
        until: time of the clock; None: without a limit.
        has_happened: whether it can go on already.
        wake: makes its thread look; any thread may call it.
    """

    def __init__(self, until: float | None, *, has_happened: Callable[[], bool], wake: Callable[[], None]) -> None:
        self.until = until
        self.has_happened = has_happened
        self.wake = wake


class VirtualClock:
    """A clock that jumps.

    Args:
        hang_after: real seconds after which a test that still waits fails with `Hang`; default 30.
    """

    def __init__(self, *, hang_after: float = HANG_AFTER) -> None:
        self._now = _real_monotonic()
        self._wall = _real_time() - self._now
        self._lock = threading.RLock()
        self._waits: dict[threading.Thread, Wait | None] = {}  # None: busy
        self._sleepers: dict[threading.Thread, Wait] = {}  # threads of tasks that sleep
        self._probes: list[Callable[[], bool]] = []
        self._helpers: set[threading.Thread] = set()  # threads that run a function for an event loop
        self._busy = 0  # blocks of `busy`, and functions that helpers run
        self._idle_since: float | None = None  # real time of a deadlock
        self._hang_after = hang_after
        self._started = _real_monotonic()
        self._owner = threading.current_thread()
        self._waits[self._owner] = None
        self._has_hung = False

    def __repr__(self) -> str:
        return f"<VirtualClock: {self._now - self._started:.3f} s>"

    # --- for tests --------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds, as time.monotonic."""
        return self._now

    def time(self) -> float:
        """Epoch seconds, as time.time."""
        return self._now + self._wall

    def scaled(self, seconds: float) -> float:
        """The same: an hour costs nothing here."""
        return seconds

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass, in a test that is a plain function, or in a task."""
        self.wait_in_thread(self._now + max(0.0, seconds), lambda: False)

    # --- for the parts of a test ------------------------------------------------------------------------------------

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop`, a SelectorEventLoop that is open, use this clock; idempotent."""
        if isinstance(getattr(loop, "_selector", None), ClockSelector):
            return
        if asyncio._get_running_loop() is loop:
            self.enlist(threading.current_thread())
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise TypeError(
                f"{type(loop).__name__} cannot use the clock of a test: run the test on asyncio's own event loop, or "
                "with a RabbitMQ (--crew-broker)"
            )
        loop._selector = ClockSelector(loop._selector, self)  # type: ignore[attr-defined]
        loop.time = self.monotonic  # type: ignore[method-assign]
        replaced: Any = loop
        replaced.run_in_executor = functools.partial(self._run_in_executor, loop.run_in_executor)

    def enlist(self, thread: threading.Thread) -> None:
        """No time passes until `thread`, which was started, waits on a loop of this clock for the first time."""
        with self._lock:
            self._waits.setdefault(thread, None)

    def _run_in_executor(self, run: Callable[..., Any], executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        """As loop.run_in_executor: no time passes while `function` runs, unless it sleeps."""

        def call() -> Any:
            thread = threading.current_thread()
            self._helpers.add(thread)
            try:
                return function(*args)
            finally:
                self._helpers.discard(thread)

        with self._lock:
            self._busy += 1
        future = run(executor, call)
        future.add_done_callback(lambda _: self._end_busy())
        return future

    def _end_busy(self) -> None:
        with self._lock:
            self._busy -= 1

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """No time passes in this block."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            self._end_busy()

    def add_probe(self, is_busy: Callable[[], bool]) -> None:
        """No time passes while `is_busy` returns True."""
        self._probes.append(is_busy)

    def remove_probe(self, is_busy: Callable[[], bool]) -> None:
        """Forget a probe."""
        self._probes.remove(is_busy)

    def sleeps(self, thread: threading.Thread | None) -> bool:
        """Whether `thread`, which runs a task, sleeps on this clock."""
        return thread in self._sleepers

    def wake(self, thread: threading.Thread | None) -> None:
        """Let a sleeping thread run for a moment: an interrupt is to be raised in it."""
        wait = self._sleepers.get(thread) if thread is not None else None
        if wait is not None:
            wait.wake()

    # --- waiting ----------------------------------------------------------------------------------------------------

    def wait_for_events(
        self, until: float | None, poll: Callable[[], bool], wake: Callable[[], None], block: Callable[[float], Any]
    ) -> None:
        """Wait in the calling thread until `poll` is True or the time is `until`.

        Args:
            wake: ends `block`; any thread may call it.
            block: waits for real, at most the given real seconds.
        """
        thread, wait = threading.current_thread(), Wait(until, has_happened=poll, wake=wake)
        with self._lock:
            self._waits[thread] = wait
            self._jump_if_idle()
        try:
            while self._is_waiting(self._waits, thread, wait) and not poll():
                block(_LOOK_AGAIN)
                if not poll():
                    with self._lock:
                        self._jump_if_idle()
                    self._check(thread)
        finally:
            self._resume(self._waits, thread)

    def wait_in_thread(self, until: float | None, has_happened: Callable[[], bool]) -> None:
        """Wait in the calling thread, which may run a task, until `has_happened` is True or the time is `until`."""
        lock = threading.Lock()
        lock.acquire()
        wait = Wait(until, has_happened=has_happened, wake=lambda: _release(lock))
        thread = threading.current_thread()
        waiting: dict[threading.Thread, Any] = self._waits if thread in self._waits else self._sleepers
        try:
            with self._lock:
                waiting[thread] = wait
                self._jump_if_idle()
            while self._is_waiting(waiting, thread, wait) and not has_happened():
                lock.acquire(timeout=_LOOK_AGAIN)
                with self._lock:
                    self._jump_if_idle()
                self._check(thread)
        finally:
            self._resume(waiting, thread)

    def result(self, future: "concurrent.futures.Future[Any]", timeout: float | None = None) -> Any:
        """As Future.result: the timeout is one of this clock."""
        thread = threading.current_thread()
        if thread not in self._waits or future.done():
            return _real_result(future, timeout)
        done = threading.Event()

        def on_done(_: object) -> None:
            self._resume(self._waits, thread)  # before the thread runs: no time may pass meanwhile
            done.set()

        future.add_done_callback(on_done)
        until = None if timeout is None else self._now + timeout
        self.wait_for_events(until, future.done, done.set, done.wait)
        return _real_result(future, 0)

    def _is_waiting(self, waiting: "dict[threading.Thread, Any]", thread: threading.Thread, wait: Wait) -> bool:
        return waiting.get(thread) is wait and (wait.until is None or self._now < wait.until)

    def _resume(self, waiting: "dict[threading.Thread, Any]", thread: threading.Thread) -> None:
        with self._lock:
            if waiting is self._sleepers:
                waiting.pop(thread, None)
            else:
                waiting[thread] = None
            self._idle_since = None

    def _jump_if_idle(self) -> None:
        """Jump, where every thread waits for something that has not happened."""
        for thread in [one for one in self._waits if not one.is_alive()]:
            del self._waits[thread]
        waits = [*self._waits.values(), *self._sleepers.values()]
        sleeping = sum(thread in self._helpers for thread in self._sleepers)
        if self._busy > sleeping or None in waits or any(is_busy() for is_busy in self._probes):
            self._idle_since = None
            return
        happened = [wait for wait in waits if wait is not None and wait.has_happened()]
        for wait in happened:
            wait.wake()
        if happened:
            return
        until = min((wait.until for wait in waits if wait is not None and wait.until is not None), default=None)
        if until is None:
            self._idle_since = self._idle_since or _real_monotonic()
            return
        self._now = max(self._now, until)
        for waiting in (self._waits, self._sleepers):
            self._wake_due(waiting)

    def _wake_due(self, waiting: Any) -> None:
        """Mark the threads as busy whose time has come: no further time passes before they have run."""
        for thread, wait in list(waiting.items()):
            if wait is not None and wait.until is not None and wait.until <= self._now:
                if waiting is self._sleepers:
                    del waiting[thread]
                else:
                    waiting[thread] = None
                wait.wake()

    def _check(self, thread: threading.Thread) -> None:
        """Raise Hang in the thread of the test, once, where the test does not end."""
        if thread is not self._owner or self._has_hung:
            return
        now = _real_monotonic()
        if self._idle_since is not None and now - self._idle_since >= DEADLOCK_AFTER:
            reason = "nothing can happen any more: no timer runs, and no message is on its way"
        elif now - self._started >= self._hang_after:
            reason = f"the test runs for {now - self._started:.0f} s, in which {self!r} passed"
        else:
            return
        self._has_hung = True
        raise Hang(f"{reason}\n{report(asyncio._get_running_loop())}")

    # --- the functions of the process -------------------------------------------------------------------------------

    def install(self) -> None:
        """Replace the functions of the process; raise RuntimeError where another clock is installed."""
        if _installed:
            raise RuntimeError("a test uses another clock already: one clock is installed at a time in a process")
        _installed.append(self)
        _replace(
            sleep=self._sleep_here,
            monotonic=self.monotonic,
            wall=self.time,
            result=lambda future, timeout=None: self.result(future, timeout),
            token_wait=lambda token, timeout=None: self._wait_for_token(token, timeout),
            loop_time=lambda _: _real_monotonic(),  # of the loops that do not take part
        )

    def uninstall(self) -> None:
        """Restore the functions of the process; idempotent."""
        if self in _installed:
            _installed.remove(self)
            _replace(
                sleep=_real_sleep,
                monotonic=_real_monotonic,
                wall=_real_time,
                result=_real_result,
                token_wait=_real_token_wait,
                loop_time=_real_loop_time,
            )

    def _wait_for_token(self, token: CancelToken, timeout: float | None) -> bool:
        """`context.canceled.wait` of a task."""
        if not self._takes_part():
            return _real_token_wait(token, timeout)
        self.wait_in_thread(None if timeout is None else self._now + max(0.0, timeout), token.is_set)
        return token.is_set()

    def _takes_part(self) -> bool:
        """Whether the calling thread belongs to the test, or runs a task."""
        thread = threading.current_thread()
        return thread in self._waits or thread in self._helpers or current_execution.get() is not None

    def _sleep_here(self, seconds: float) -> None:
        """`time.sleep` of this process: real in a thread that neither belongs to the test nor runs a task."""
        if self._takes_part():
            self.sleep(seconds)
        else:
            _real_sleep(seconds)


def _release(lock: "threading.Lock") -> None:
    with contextlib.suppress(RuntimeError):  # it is released already
        lock.release()


def _replace(*, sleep: Any, monotonic: Any, wall: Any, result: Any, token_wait: Any, loop_time: Any) -> None:
    """Set the functions of this process that tell or wait for time."""
    time.sleep, time.monotonic, time.time = sleep, monotonic, wall
    replaced: Any = concurrent.futures.Future
    replaced.result = result
    replaced = CancelToken
    replaced.wait = token_wait
    replaced = asyncio.BaseEventLoop
    replaced.time = loop_time

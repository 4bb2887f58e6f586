"""Enforces the limits of executions. Runs on the I/O thread, which a task never blocks.

The steps for an execution that does not end: at its limit it is interrupted, and again every second; its caller gets
the reply at once; at limit + grace it is `on_stuck`. In the main thread executor the kernel timer interrupts on time,
and the watchdog checks that it did. In the other executors the watchdog is the timer.
"""

import asyncio
import math
import sys
import time
from typing import Final, Protocol

from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.executors.contract import RESEND_INTERVAL, Executor

CHECK_INTERVAL: Final = 0.1  # seconds between two checks while something runs
ANNOUNCE_AFTER: Final = 0.2  # seconds: a short call costs two messages, a longer one a third
TIMER_DELAY: Final = 0.02  # seconds that the executor's own timer has; then this interrupts, within 50 ms of the limit
NEAR: Final = 2 * CHECK_INTERVAL  # seconds before a limit at which the switch interval is shortened
BUSY_AFTER: Final = 0.1  # seconds without a free slot: waiting deliveries could run in another process

# Seconds for which a thread that computes keeps the GIL, near a limit. With Python's 5 ms the I/O thread, which waits
# behind each such thread several times before it has interrupted one, is sometimes too late. At all other times, a
# short interval would slow down short tasks.
SHORT_SWITCH_INTERVAL: Final = 0.001

_near_limit: Final[set[object]] = set()  # the watchdogs that have an execution near its limit
_usual_switch_interval: float = sys.getswitchinterval()


class Watched(Protocol):
    """Acts on what the watchdog finds."""

    def has_work(self) -> bool:
        """Whether an execution runs, or waits for a slot."""

    def on_started_long_ago(self, execution: Execution) -> None:
        """It has run for a while: its start can be announced to its caller."""

    def on_decided(self, execution: Execution) -> None:
        """It was interrupted: the reply can be sent, whether or not the task has ended."""

    def on_ended(self, execution: Execution) -> None:
        """Nothing of it runs any longer; may be called twice."""

    def on_stuck(self, execution: Execution) -> None:
        """It runs on after its limit and grace."""

    def on_busy(self) -> None:
        """No slot has been free for a while."""


class Watchdog:
    """Checks the executions of `executor`, and interrupts those beyond their limit.

    Args:
        grace: seconds between the first interrupt and `on_stuck`.
        resend: seconds between two interrupts of one task. Default 1.
    """

    def __init__(
        self, executor: Executor, watched: Watched, held: Held, *, grace: float, resend: float = RESEND_INTERVAL
    ) -> None:
        self._held = held
        self._executor = executor
        self._watched = watched
        self._grace = grace
        self._resend = resend
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Start checking: an execution runs, or will run soon."""
        if self._timer is None:
            self._check_in(CHECK_INTERVAL)

    def wake_by(self, limit: float | None) -> None:
        """Check at `limit` (time.monotonic()) at the latest."""
        wait = CHECK_INTERVAL if limit is None else max(0.0, limit - time.monotonic())
        if self._timer is None or self._timer.when() > asyncio.get_running_loop().time() + wait:
            self._check_in(min(wait, CHECK_INTERVAL))

    def stop(self) -> None:
        """Stop checking."""
        self._disarm()
        _shorten_switch_interval(self, near=False)

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        """Interrupt `execution` now, and again until it has ended."""
        execution.interruption.requested_at = time.monotonic()
        self._executor.interrupt(execution, reason)
        self.wake()

    def _check_in(self, seconds: float) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        now = time.monotonic()
        try:
            self._check_all(now)
        finally:
            self._schedule_next(now)

    def _check_all(self, now: float) -> None:
        for execution in self._held.running():
            self._check_one(execution, now)
        running = self._held.running()
        if len(running) >= self._executor.slots and all(now - (one.started or now) >= BUSY_AFTER for one in running):
            self._watched.on_busy()

    def _schedule_next(self, now: float) -> None:
        limits = [one.limit for one in self._held.running() if one.limit is not None]
        _shorten_switch_interval(self, near=min(limits, default=math.inf) <= now + NEAR)
        if self._watched.has_work():
            if self._executor.has_timer:
                limits += [limit + TIMER_DELAY for limit in limits]
            self._check_in(min(CHECK_INTERVAL, min((limit for limit in limits if limit > now), default=math.inf) - now))

    def _check_one(self, execution: Execution, now: float) -> None:
        if self._executor.has_left(execution):
            self._watched.on_ended(execution)
            return
        due = execution.due
        if due is not None and now >= due:
            self._enforce(execution, now, now - due)
        if execution.is_interrupted:
            self._watched.on_decided(execution)
        elif not execution.is_announced and now - (execution.started or now) >= ANNOUNCE_AFTER:
            self._watched.on_started_long_ago(execution)

    def _enforce(self, execution: Execution, now: float, late: float) -> None:
        """Interrupt it `late` seconds after its limit. An executor with a timer first has some time to do so itself."""
        again = self._resend
        if self._executor.has_timer:
            again += TIMER_DELAY
            if late < TIMER_DELAY:
                return
        is_due = now - execution.interruption.requested_at >= self._resend
        if is_due and not execution.interruption.was_raised_lately(now, within=again):
            self.interrupt(execution, InterruptReason.TIMEOUT)
        if late >= self._grace and execution.is_interrupted:
            self._watched.on_stuck(execution)


def _shorten_switch_interval(watchdog: object, *, near: bool) -> None:
    """Shorten Python's switch interval while it is `near` a limit for any watchdog; restore it when for none."""
    global _usual_switch_interval
    was_short = bool(_near_limit)
    (_near_limit.add if near else _near_limit.discard)(watchdog)
    if _near_limit and not was_short:
        _usual_switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(SHORT_SWITCH_INTERVAL, _usual_switch_interval))
    elif was_short and not _near_limit:
        sys.setswitchinterval(_usual_switch_interval)

"""Deadlines of what runs: announce, interrupt, interrupt again, escalate. On the I/O thread, which a task never blocks.

In the main lane the kernel timer interrupts on time, and this looks whether it did; in the thread lane this is the
timer. The ladder of an execution that does not end: its limit -> interrupted, and again every second; the caller is
answered at once -> limit + grace -> `on_stuck`.
"""

import asyncio
import math
import time
from typing import Final, Protocol

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.executors import switch_interval
from crew.worker.executors.contract import RESEND, Lane

LOOK_EVERY: Final = 0.1  # seconds between two looks while something runs
ANNOUNCE_AFTER: Final = 0.2  # seconds: short calls cost two messages, longer ones a third
HELP_AFTER: Final = 0.02  # seconds that the main lane's own timer has; then this strikes, within 50 ms of the limit
NEAR: Final = 2 * LOOK_EVERY  # seconds before a limit from which threads take short turns
BUSY_AFTER: Final = 0.1  # seconds without a free slot: what waits here could run elsewhere


class Watched(Protocol):
    """Who acts on what the watchdog sees."""

    def has_work(self) -> bool:
        """Whether anything runs, or waits to."""

    def on_started_long_ago(self, execution: Execution) -> None:
        """The caller should know that it has started."""

    def on_decided(self, execution: Execution) -> None:
        """It was interrupted: the caller can be answered, whether or not the task has ended."""

    def on_ended(self, execution: Execution) -> None:
        """Nothing of it runs any longer; may come twice."""

    def on_stuck(self, execution: Execution) -> None:
        """It goes on after its limit and grace."""

    def on_busy(self) -> None:
        """No slot has been free for a while."""


class Watchdog:
    """Looks at what runs in `lane`.

    Args:
        grace: seconds between the first interrupt and `on_stuck`.
    """

    def __init__(self, lane: Lane, watched: Watched, *, grace: float) -> None:
        self._lane = lane
        self._watched = watched
        self._grace = grace
        self._timer: asyncio.TimerHandle | None = None
        self._asked: dict[Execution, float] = {}  # execution -> time.monotonic() at which the lane was asked last

    def wake(self) -> None:
        """Something runs, or will in a moment: begin to look."""
        if self._timer is None:
            self._look_in(LOOK_EVERY)

    def wake_by(self, limit: float | None) -> None:
        """Look at `limit` (time.monotonic()) at the latest."""
        wait = LOOK_EVERY if limit is None else max(0.0, limit - time.monotonic())
        if self._timer is None or self._timer.when() > asyncio.get_running_loop().time() + wait:
            self._look_in(min(wait, LOOK_EVERY))

    def stop(self) -> None:
        """Look no more."""
        self._disarm()
        switch_interval.shorten(self, near=False)

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Interrupt `execution` now, and again until it has ended."""
        self._asked[execution] = time.monotonic()
        self._lane.interrupt(execution, reason)
        self.wake()

    def _look_in(self, seconds: float) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        try:
            self._look_at_all(now)
        finally:
            self._look_again(now)

    def _look_at_all(self, now: float) -> None:
        for execution in self._lane.running():
            self._look_at(execution, now)
        running = self._lane.running()
        self._asked = {one: when for one, when in self._asked.items() if one in running}
        if len(running) == self._lane.slots and all(now - (one.started or now) >= BUSY_AFTER for one in running):
            self._watched.on_busy()

    def _look_again(self, now: float) -> None:
        limits = [one.limit for one in self._lane.running() if one.limit is not None]
        switch_interval.shorten(self, near=min(limits, default=math.inf) <= now + NEAR)
        if self._watched.has_work():
            if self._lane.has_timer:
                limits += [limit + HELP_AFTER for limit in limits]
            self._look_in(min(LOOK_EVERY, min((limit for limit in limits if limit > now), default=math.inf) - now))

    def _look_at(self, execution: Execution, now: float) -> None:
        if self._lane.has_left(execution):
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
        """Its limit was `late` seconds ago. A lane with a timer has some time to strike by itself."""
        again = RESEND
        if self._lane.has_timer:
            again += HELP_AFTER
            if late < HELP_AFTER:
                return
        if now - self._asked.get(execution, -math.inf) >= RESEND and not execution.is_struck(now, within=again):
            self.interrupt(execution, Reason.TIMEOUT)
        if late >= self._grace and execution.is_interrupted:
            self._watched.on_stuck(execution)

"""One task at a time in the main thread of the process, where a signal interrupts what blocks.

A kernel timer strikes at the limit: the signal ends a sleep, a read or a lock within milliseconds, and its handler
raises. The I/O thread strikes with a signal of its own, so that a task that uses SIGALRM itself is no exception. And
while a task burns CPU without ever letting another thread run (a regular expression, huge integers), a third signal
makes it pause for the I/O thread: so heartbeats go on there, and a cancel is heard.
"""

import logging
import signal
import threading
import time
from typing import Final

from crew.errors import Interrupt
from crew.protocol.failure import describe
from crew.protocol.message import Outcome
from crew.worker.execution.async_exception import stack_of
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.execution.result import ended_with
from crew.worker.executors import gil_pauses
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import RESEND, OnExecution
from crew.worker.executors.signals import STRIKE, strike
from crew.worker.posix import kernel_timer, signal_handlers
from crew.worker.posix.kernel_timer import ALARM

logger = logging.getLogger(__name__)

SIGNALS: Final = (ALARM, STRIKE, gil_pauses.PAUSE)


class MainLane:
    """One task at a time, in the main thread.

    Args:
        on_started, on_ended: called with each execution, in the main thread.
    """

    slots = 1
    has_timer = True

    def __init__(self, buffer: Buffer, *, on_started: OnExecution, on_ended: OnExecution) -> None:
        self._buffer = buffer
        self._on_started = on_started
        self._on_ended = on_ended
        self._current: Execution | None = None

    def fill(self) -> None:
        """Nothing: the main thread helps itself from the buffer."""

    def running(self) -> list[Execution]:
        """The one that runs."""
        current = self._current
        return [] if current is None else [current]

    def has_left(self, execution: Execution) -> bool:
        """Whether another may run."""
        return execution.has_ended

    def release(self, execution: Execution) -> None:
        """Nothing: the main thread goes on by itself."""

    def abandon(self, execution: Execution) -> bool:
        """The main thread cannot go on without it."""
        return False

    def abandoned(self) -> int:
        """None."""
        return 0

    def stack(self, execution: Execution) -> str:
        """Where the main thread is."""
        return stack_of(threading.main_thread()) if self._current is execution else ""

    def serve(self) -> None:
        """Run what comes, until `stop`."""
        self._take_signals()
        while (execution := self._buffer.take()) is not None:
            self._run(execution)
            del execution  # so that its payload does not outlive it while the lane waits

    def stop(self) -> None:
        """Return from `serve` once the running task has ended."""
        self._buffer.close()

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Interrupt `execution`, now."""
        if execution.is_interrupted or execution.interrupt(reason):
            strike()

    # --- the main thread --------------------------------------------------------------------------------------------

    def _run(self, execution: Execution) -> None:
        try:
            if execution.ended is None:
                execution.begin()
                self._on_started(execution)  # not current yet: no interrupt lands in what is ours
            if execution.ended is None:
                self._current = execution
                kernel_timer.ring_by(execution.limit)
                execution.run()
        except BaseException as error:
            # Only an interrupt that was sent again, just when the task had ended, can land here.
            if not isinstance(error, Interrupt):
                logger.exception("%r could not be run", execution)
            execution.decide(ended_with(Outcome.RAISED, describe(error)))
        execution.has_ended = True
        self._current = None
        if execution.is_interrupted or signal.getsignal(ALARM) != self._on_signal:
            self._take_signals()
        else:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # no question of its own: to ask costs as much
        self._on_ended(execution)

    def _take_signals(self) -> None:
        """Make signals ours: a task may have used them, or blocked them."""
        for number in (ALARM, STRIKE):
            signal_handlers.install(number, self._on_signal)
        gil_pauses.begin()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _on_signal(self, _signal: int, _frame: object) -> None:
        """Runs in the main thread between two bytecodes of whatever runs there."""
        execution = self._current
        if execution is None or execution.has_ended:
            return
        now = time.monotonic()
        if not execution.is_interrupted:
            if execution.limit is None or now < execution.limit:
                kernel_timer.ring_by(execution.limit)
                return
            if not execution.interrupt(Reason.TIMEOUT):
                return
        kernel_timer.ring_by(now + RESEND)
        execution.strike(now)

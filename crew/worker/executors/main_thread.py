"""Runs one task at a time in the main thread of the process, where a signal interrupts a blocking call.

A kernel timer fires at the limit: its signal ends a sleep, a read or a lock within milliseconds, and the handler
raises the interrupt. The I/O thread interrupts with a signal of its own, so that this also works for a task that uses
SIGALRM itself. A third signal pauses a task that computes without releasing the GIL (a regular expression, huge
integers), so that the I/O thread sends heartbeats and receives cancels.
"""

import contextvars
import logging
import signal
import threading
import time

from crew.errors import Interrupt
from crew.protocol.failure import describe
from crew.protocol.message import Outcome
from crew.worker.execution.async_exception import stack_of
from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import failed_with
from crew.worker.execution.state import END, ENDED
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import RESEND_INTERVAL, OnExecution
from crew.worker.executors.signals import (
    ALARM,
    INTERRUPT,
    SIGNALS,
    interrupt_main_thread,
    set_alarm,
    start_gil_pauses,
)
from crew.worker.posix import signal_handlers

logger = logging.getLogger(__name__)


class MainThreadExecutor:
    """Runs one task at a time, in the main thread.

    Args:
        on_started, on_ended: called with each execution, in the main thread.
        resend: seconds between two interrupts of one task. Default 1.
    """

    slots = 1
    has_timer = True
    takes = True

    def __init__(
        self,
        buffer: Buffer,
        held: Held,
        *,
        on_started: OnExecution,
        on_ended: OnExecution,
        resend: float = RESEND_INTERVAL,
    ) -> None:
        self._held = held
        self._buffer = buffer
        self._on_started = on_started
        self._on_ended = on_ended
        self._resend = resend
        self._current: Execution | None = None

    def fill(self) -> None:
        """Do nothing: the main thread takes executions from the buffer by itself."""

    def has_left(self, execution: Execution) -> bool:
        """Whether it has ended."""
        return execution.has_ended

    def can_abandon(self, execution: Execution) -> bool:
        """False: the main thread is blocked by it."""
        return False

    def stack(self, execution: Execution) -> str:
        """The stack of the main thread, if `execution` runs in it."""
        return stack_of(threading.main_thread()) if self._current is execution else ""

    def serve(self) -> None:
        """Run executions from the buffer until `stop`."""
        self._take_signals()
        while (execution := self._buffer.take()) is not None:
            self._run(execution)
            del execution  # frees its payload while the executor waits

    def stop(self) -> None:
        """Have `serve` return after the running task has ended."""
        self._buffer.close()

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        """Interrupt `execution` by a signal."""
        if execution.is_interrupted or execution.interrupt(reason):
            interrupt_main_thread()

    # --- the main thread --------------------------------------------------------------------------------------------

    def _run(self, execution: Execution) -> None:
        state = execution.state
        try:
            if not state.decisions:
                execution.begin()
                self._on_started(execution)  # not current yet: no interrupt is raised in crew's own code
            if not state.decisions:
                self._held.take_slot(execution)
                self._current = execution
                set_alarm(execution.times.limit)
                contextvars.copy_context().run(execution.run)
        except BaseException as error:
            # Only an interrupt that was sent again just as the task ended can be raised here.
            if not isinstance(error, Interrupt):
                logger.exception(
                    "execution failed outside of its task: call_id=%s task=%s", execution.call.id, execution.task.name
                )
            execution.decide(failed_with(Outcome.RAISED, describe(error)))
        if state.task is not ENDED:
            state.move(END)
        self._current = None
        if state.decisions[0].reason is not None or signal_handlers.getsignal(ALARM) != self._on_signal:
            self._take_signals()
        else:
            signal_handlers.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # without a check: it would cost as much
        self._on_ended(execution)

    def _take_signals(self) -> None:
        """Install crew's handlers and unblock their signals: a task may have replaced or blocked them."""
        for number in (ALARM, INTERRUPT):
            signal_handlers.install(number, self._on_signal)
        start_gil_pauses()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _on_signal(self, _signal: int, _frame: object) -> None:
        """Interrupt the current execution, if that is due. Runs in the main thread between two bytecodes."""
        execution = self._current
        if execution is None or execution.has_ended:
            return
        now = time.monotonic()
        if not execution.is_interrupted:
            if execution.limit is None or now < execution.limit:
                set_alarm(execution.limit)
                return
            if not execution.interrupt(InterruptReason.TIMEOUT):
                return
        set_alarm(now + self._resend)
        execution.raise_interrupt(now)

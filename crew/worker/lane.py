"""Where a task runs, and how it is interrupted there.

`MainLane` runs one task at a time in the main thread of the process, because only there a kernel timer can interrupt
what blocks: the signal ends a sleep, a read or a lock within milliseconds, and its handler raises. `ThreadLane` runs
several, each in a fresh thread that is never used again: an exception that is set in a thread from outside may land
anywhere in it, also after the task has ended.

In both, `Execution.interrupt` decides first, and only its winner raises anything.
"""

import ctypes
import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from crew.errors import Interrupt
from crew.protocol.failure import describe
from crew.protocol.message import Outcome
from crew.worker.buffer import Buffer
from crew.worker.execution import Execution, Reason, ended_with

logger = logging.getLogger(__name__)

RESEND: Final = 1.0  # seconds between two interrupts of a task that goes on: time for it to clean up

LONGEST_TIMER: Final = 86_400.0  # seconds; the kernel's own bound is lower than what a foreign message may ask for

OnExecution = Callable[[Execution], None]


class Lane(Protocol):
    """Where tasks run.

    Attributes:
        slots: executions at a time.
        has_timer: interrupts at the limit, and again, by itself.
    """

    slots: int
    has_timer: bool

    def fill(self) -> None:
        """Start what is in the buffer, as far as slots are free. Called on the I/O thread."""

    def running(self) -> list[Execution]:
        """What runs now."""

    def has_left(self, execution: Execution) -> bool:
        """Whether nothing of `execution` runs any longer, though it may not have said so."""

    def release(self, execution: Execution) -> None:
        """Give its slot to the next. Called on the I/O thread."""

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Stop `execution`; repeat for one that goes on. Called on the I/O thread."""

    def serve(self) -> None:
        """Hold the main thread until `stop`."""

    def stop(self) -> None:
        """Let `serve` return once the running task has ended. Called on the I/O thread."""


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
        self._fires_at = math.inf  # time.monotonic() of the kernel timer
        self._asked: tuple[Execution, Reason] | None = None

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

    def serve(self) -> None:
        """Run what comes, until `stop`."""
        signal.signal(signal.SIGALRM, self._on_alarm)
        while (execution := self._buffer.take()) is not None:
            self._run(execution)
            del execution  # so that its payload does not outlive it while the lane waits

    def stop(self) -> None:
        """Return from `serve` once the running task has ended."""
        self._buffer.close()

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Let the alarm handler interrupt `execution`, now."""
        self._asked = (execution, reason)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _run(self, execution: Execution) -> None:
        try:
            execution.begin()
            self._current = execution
            self._on_started(execution)
            self._arm(execution.limit)
            execution.run()
        except BaseException as error:
            # Only an interrupt that was sent again, just when the task had ended, can land here.
            if not isinstance(error, Interrupt):
                logger.exception("%r could not be run", execution)
            execution.decide(ended_with(Outcome.RAISED, describe(error)))
        execution.has_ended = True
        self._current = None
        self._on_ended(execution)

    def _arm(self, limit: float | None) -> None:
        """Have the timer fire by `limit`. One that fires earlier is left alone: its handler arms it again.

        So a stream of short tasks costs no system call.
        """
        if limit is not None and limit < self._fires_at:
            wait = min(max(limit - time.monotonic(), 1e-6), LONGEST_TIMER)
            self._fires_at = limit
            signal.setitimer(signal.ITIMER_REAL, wait)

    def _on_alarm(self, _signal: int, _frame: object) -> None:
        """Runs in the main thread between two bytecodes of whatever runs there."""
        execution = self._current
        self._fires_at = math.inf
        if execution is None or execution.has_ended:
            return
        reason = self._reason(execution)
        if reason is None:
            self._arm(execution.limit)
        elif execution.is_interrupted or execution.interrupt(reason):
            self._arm(time.monotonic() + RESEND)
            raise Interrupt(execution.reason or reason)

    def _reason(self, execution: Execution) -> Reason | None:
        asked, self._asked = self._asked, None
        if execution.is_interrupted:
            return execution.reason
        if asked is not None and asked[0] is execution:
            return asked[1]
        if execution.limit is not None and time.monotonic() >= execution.limit:
            return Reason.TIMEOUT
        return None


class _Canceled(Interrupt):
    def __init__(self) -> None:
        super().__init__(Reason.CANCELED)


class _Drained(Interrupt):
    def __init__(self) -> None:
        super().__init__(Reason.DRAIN)


_CLASSES: Final[dict[Reason, type[Interrupt]]] = {
    Reason.TIMEOUT: Interrupt,  # an exception is set from outside as a class, so each reason needs one
    Reason.CANCELED: _Canceled,
    Reason.DRAIN: _Drained,
}


class ThreadLane:
    """Several tasks at a time, each in a fresh thread. Python code is interrupted, a blocking call is not.

    Args:
        slots: how many.
        on_started: called with each execution on the I/O thread.
        on_ended: called with each in its own thread; not where the interrupt lands in that very call, so that who
            interrupts looks at `has_left` too.
    """

    has_timer = False

    def __init__(self, slots: int, buffer: Buffer, *, on_started: OnExecution, on_ended: OnExecution) -> None:
        self.slots = slots
        self._buffer = buffer
        self._on_started = on_started
        self._on_ended = on_ended
        self._threads: dict[Execution, threading.Thread] = {}
        self._stopped = threading.Event()

    def fill(self) -> None:
        """Start threads for what is in the buffer, as far as slots are free."""
        while len(self._threads) < self.slots and (execution := self._buffer.take_nowait()) is not None:
            thread = threading.Thread(
                target=self._run, args=(execution,), name=f"task {execution.task.name}", daemon=True
            )
            self._threads[execution] = thread
            execution.begin()
            self._on_started(execution)
            thread.start()

    def running(self) -> list[Execution]:
        """Those whose threads have a slot."""
        return list(self._threads)

    def has_left(self, execution: Execution) -> bool:
        """Whether its thread has ended."""
        thread = self._threads.get(execution)
        return thread is None or not thread.is_alive()

    def release(self, execution: Execution) -> None:
        """Give its slot to the next."""
        self._threads.pop(execution, None)

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Raise in the thread of `execution`."""
        if not (execution.is_interrupted or execution.interrupt(reason)):
            return
        thread = self._threads.get(execution)
        if thread is not None and thread.is_alive() and not execution.has_ended:
            kind = _CLASSES[execution.reason or reason]
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))

    def serve(self) -> None:
        """Hold the main thread, which runs no tasks here."""
        self._stopped.wait()

    def stop(self) -> None:
        """Return from `serve`."""
        self._stopped.set()

    def _run(self, execution: Execution) -> None:
        execution.run()
        self._on_ended(execution)

"""Runs many coroutines at a time on an event loop of its own: a task that blocks this loop stops no heartbeat.

An interrupt cancels the asyncio task, so each `await` ends at once. A cancellation does not reach a coroutine that
blocks the loop (by `time.sleep`, or by a library without asyncio). If the loop runs in the main thread, a signal then
raises in the blocking coroutine. In another thread, or if the signal does not help, the process is replaced.
"""

import asyncio
import inspect
import threading
import time
from types import FrameType
from typing import Final

from crew.worker.execution.async_exception import stack_of, stack_of_coroutine
from crew.worker.execution.execution import Execution, current_execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import IoThread, OnExecution
from crew.worker.executors.signals import (
    ALARM,
    INTERRUPT,
    interrupt_main_thread,
    set_alarm,
    start_gil_pauses,
)
from crew.worker.mailbox import Mailbox
from crew.worker.posix import signal_handlers

BLOCKED_AFTER: Final = 0.5  # seconds without a reaction of the loop
SIGNAL_AFTER: Final = 0.02  # seconds that the loop has for a cancellation; the signal comes within 50 ms of the limit


class EventLoopExecutor:
    """Runs many coroutines at a time.

    Args:
        slots: executions at a time.
        on_started: called with each execution on the I/O thread.
        on_ended: called with each execution, on the loop of this executor or on the I/O thread.
        io: the I/O thread.
        blocked_after: seconds without a reaction after which the loop counts as blocked. Default 0.5.
    """

    has_timer = False
    takes = False

    def __init__(
        self,
        slots: int,
        buffer: Buffer,
        held: Held,
        *,
        on_started: OnExecution,
        on_ended: OnExecution,
        io: IoThread,
        blocked_after: float = BLOCKED_AFTER,
    ) -> None:
        self.slots = slots
        self._buffer = buffer
        self._held = held
        self._on_started = on_started
        self._on_ended = on_ended
        self._io = io
        self._blocked_after = blocked_after
        self._loop = asyncio.new_event_loop()
        self._mailbox = Mailbox(self._loop)
        self._thread: threading.Thread | None = None
        self._probed_at: float | None = None  # time.monotonic() of a probe to which the loop has not reacted

    def fill(self) -> None:
        """Start executions from the buffer while slots are free."""
        while not self._held.is_full(self.slots) and (execution := self._buffer.take_nowait()) is not None:
            if execution.result is not None:
                self._on_ended(execution)
                continue
            self._held.take_slot(execution)
            execution.begin()
            if self._thread is threading.main_thread():
                set_alarm(None if execution.limit is None else execution.limit + SIGNAL_AFTER)
            self._on_started(execution)
            # After its messages are written: the coroutine may never let another thread run again.
            self._io.soon(self._mailbox.post, self._start, execution)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which the tasks run."""
        return self._loop

    def has_left(self, execution: Execution) -> bool:
        """Whether it has ended."""
        return execution.has_ended

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        """Cancel the asyncio task of `execution`; if the loop is blocked, interrupt the main thread."""
        if not (execution.is_interrupted or execution.interrupt(reason)):
            return
        self._mailbox.post(self._cancel, execution)
        if self._thread is threading.main_thread():
            self._io.later(SIGNAL_AFTER, self._signal_if_blocked, execution)
        self._probe()

    def can_abandon(self, execution: Execution) -> bool:
        """False if the loop is blocked, by this execution or another."""
        return not self._is_blocked()

    def stack(self, execution: Execution) -> str:
        """The stack of its coroutine; if the loop is blocked, the stack of the loop's thread."""
        if self._is_blocked():
            return stack_of(self._thread)
        task = _task_of(execution)
        return "" if task is None or task.done() else stack_of_coroutine(task.get_coro())

    def serve(self) -> None:
        """Run the loop in the calling thread, until `stop`."""
        self._thread = threading.current_thread()
        if self._thread is threading.main_thread():
            signal_handlers.install(ALARM, self._on_alarm)
            signal_handlers.install(INTERRUPT, self._on_interrupt)
            start_gil_pauses()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def stop(self) -> None:
        """Have `serve` return as soon as the loop is not blocked."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _signal_if_blocked(self, execution: Execution) -> None:
        """Interrupt the main thread if the loop has not canceled `execution`: a coroutine blocks it, maybe this one."""
        if not (execution.has_ended or execution.interruption.was_raised_lately(time.monotonic())):
            interrupt_main_thread()

    # --- on the loop ------------------------------------------------------------------------------------------------

    def _start(self, execution: Execution) -> None:
        if execution.result is None:
            task = self._loop.create_task(execution.run_async(), name=f"task {execution.task.name}")
            execution.runner = task
            task.add_done_callback(lambda task: self._on_done(execution, task))
        else:
            execution.end()
            self._on_ended(execution)

    def _on_done(self, execution: Execution, task: asyncio.Task[None]) -> None:
        execution.runner = None
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it: it is the result of the execution already
        execution.end()
        self._on_ended(execution)

    def _cancel(self, execution: Execution) -> None:
        task, interruption = _task_of(execution), execution.interruption  # also if its slot was freed before
        if task is not None and not interruption.was_raised_lately(time.monotonic()) and interruption.begin():
            interruption.is_pending = False
            task.cancel((execution.reason or InterruptReason.CANCELED).value)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        """As `_on_interrupt`, shortly after the limit of an execution; if this one runs now, interrupt it first."""
        now = time.monotonic()
        moments = [one.limit + SIGNAL_AFTER for one in self._held.running() if one.limit is not None]
        set_alarm(min((moment for moment in moments if moment > now), default=None))
        execution = current_execution.get()
        if execution is not None and execution.limit is not None and now >= execution.limit:
            execution.interrupt(InterruptReason.TIMEOUT)
            self._probe()
        self._on_interrupt(number, frame)

    def _on_interrupt(self, _signal: int, frame: FrameType | None) -> None:
        """Raise in the coroutine that blocks the loop. Runs in the main thread, in the context of that coroutine."""
        execution, task = current_execution.get(), asyncio.current_task(self._loop)
        if execution is None or task is None or execution.has_ended or not execution.is_interrupted:
            return
        if not _is_in_coroutine(frame):
            return
        if task is execution.runner:
            execution.raise_interrupt(time.monotonic())
        elif not execution.interruption.shields:
            # An asyncio task that the crew task has created blocks the loop. Once it has ended, the loop cancels the
            # crew task.
            raise asyncio.CancelledError

    # --- is the loop blocked? ---------------------------------------------------------------------------------------

    def _probe(self) -> None:
        if self._probed_at is None:
            self._probed_at = time.monotonic()
            self._mailbox.post(self._on_probe)

    def _on_probe(self) -> None:
        self._probed_at = None

    def _is_blocked(self) -> bool:
        probed_at = self._probed_at
        return probed_at is not None and time.monotonic() - probed_at >= self._blocked_after


def _is_in_coroutine(frame: FrameType | None) -> bool:
    """Whether `frame` is a coroutine, or was called by one.

    The loop's own code puts a task back on its list after each step. An exception raised there would lose the task.
    """
    while frame is not None and not frame.f_code.co_flags & inspect.CO_COROUTINE:
        frame = frame.f_back
    return frame is not None


def _task_of(execution: Execution) -> asyncio.Task[None] | None:
    return execution.runner if isinstance(execution.runner, asyncio.Task) else None

"""Many coroutines at a time, on an event loop that is not the one of the broker: blocking it stops no heartbeat.

An interrupt is the cancellation of the asyncio task, so whatever awaits ends at once. A coroutine that blocks the loop
(a `time.sleep`, a read of a library that knows no asyncio) hears of no cancellation. Where the loop has the main
thread, a signal raises in the coroutine that blocks it; elsewhere, and where that does not help, the process is
replaced.
"""

import asyncio
import inspect
import threading
import time
from types import FrameType
from typing import Final

from crew.worker.execution.async_exception import stack_of, stack_of_coroutine
from crew.worker.execution.current import running
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.executors import gil_pauses
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import IoThread, OnExecution
from crew.worker.executors.signals import STRIKE, strike
from crew.worker.mailbox import Mailbox
from crew.worker.posix import kernel_timer, signal_handlers
from crew.worker.posix.kernel_timer import ALARM

BLOCKED_AFTER: Final = 0.5  # seconds without an answer of the loop
STRIKE_AFTER: Final = 0.02  # seconds that the loop has to cancel; a strike is within 50 ms of the limit then


class AsyncLane:
    """Many coroutines at a time.

    Args:
        slots: how many.
        on_started: called with each execution on the I/O thread.
        on_ended: called with each, on the loop of this lane or on the I/O thread.
        io: the I/O thread.
    """

    has_timer = False

    def __init__(
        self, slots: int, buffer: Buffer, *, on_started: OnExecution, on_ended: OnExecution, io: IoThread
    ) -> None:
        self.slots = slots
        self._buffer = buffer
        self._on_started = on_started
        self._on_ended = on_ended
        self._io = io
        self._executions: dict[Execution, None] = {}  # those with a slot, in their order
        self._tasks: dict[Execution, asyncio.Task[None]] = {}  # those that have not ended
        self._abandoned: list[Execution] = []
        self._loop = asyncio.new_event_loop()
        self._mailbox = Mailbox(self._loop)
        self._thread: threading.Thread | None = None
        self._asked_at: float | None = None  # time.monotonic() of a word that the loop has not answered

    def fill(self) -> None:
        """Start what is in the buffer, as far as slots are free."""
        while len(self._executions) < self.slots and (execution := self._buffer.take_nowait()) is not None:
            if execution.ended is not None:
                self._on_ended(execution)
                continue
            self._executions[execution] = None
            execution.begin()
            if self._thread is threading.main_thread():
                kernel_timer.ring_by(None if execution.limit is None else execution.limit + STRIKE_AFTER)
            self._on_started(execution)
            # Once what was said of it has left: the coroutine may never let another thread run again.
            self._io.soon(self._mailbox.post, self._start, execution)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """On which the tasks run."""
        return self._loop

    def running(self) -> list[Execution]:
        """Those that have a slot."""
        return list(self._executions)

    def has_left(self, execution: Execution) -> bool:
        """Whether it has ended."""
        return execution.has_ended

    def release(self, execution: Execution) -> None:
        """Give its slot to the next."""
        self._executions.pop(execution, None)

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Cancel the asyncio task of `execution`; strike, where it blocks the loop."""
        if not (execution.is_interrupted or execution.interrupt(reason)):
            return
        self._mailbox.post(self._cancel, execution)
        if self._thread is threading.main_thread():
            self._io.later(STRIKE_AFTER, self._strike, execution)
        self._ask()

    def abandon(self, execution: Execution) -> bool:
        """Give its slot to the next, unless the loop is blocked."""
        self._executions.pop(execution, None)
        self._abandoned.append(execution)
        return not self._is_blocked()

    def abandoned(self) -> int:
        """How many go on that were abandoned."""
        self._abandoned = [execution for execution in self._abandoned if not execution.has_ended]
        return len(self._abandoned)

    def stack(self, execution: Execution) -> str:
        """Where it awaits; where the loop is blocked, by whom."""
        if self._is_blocked():
            return stack_of(self._thread)
        task = self._tasks.get(execution)
        return "" if task is None or task.done() else stack_of_coroutine(task.get_coro())

    def serve(self) -> None:
        """Run the loop in the calling thread, until `stop`."""
        self._thread = threading.current_thread()
        if self._thread is threading.main_thread():
            signal_handlers.install(ALARM, self._on_alarm)
            signal_handlers.install(STRIKE, self._on_strike)
            gil_pauses.begin()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def stop(self) -> None:
        """Return from `serve` once the loop is free."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _strike(self, execution: Execution) -> None:
        """Strike, where the loop has not come to cancel `execution`: somebody blocks it, maybe that very one."""
        if not (execution.has_ended or execution.is_struck(time.monotonic())):
            strike()

    # --- on the loop ------------------------------------------------------------------------------------------------

    def _start(self, execution: Execution) -> None:
        if execution.ended is None:
            task = self._loop.create_task(execution.run_async(), name=f"task {execution.task.name}")
            self._tasks[execution] = task
            task.add_done_callback(lambda task: self._on_done(execution, task))
        else:
            execution.has_ended = True
            self._on_ended(execution)

    def _on_done(self, execution: Execution, task: asyncio.Task[None]) -> None:
        self._tasks.pop(execution, None)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it: the execution has told it already
        execution.has_ended = True
        self._on_ended(execution)

    def _cancel(self, execution: Execution) -> None:
        task = self._tasks.get(execution)  # where its slot is another's by now, too
        if task is not None and not execution.is_struck(time.monotonic()) and execution.owe():
            execution.is_owed = False
            task.cancel((execution.reason or Reason.CANCELED).value)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        """As `_on_strike`, a moment after the limit of one execution at least: its own, where that is what runs."""
        now = time.monotonic()
        moments = [one.limit + STRIKE_AFTER for one in list(self._executions) if one.limit is not None]
        kernel_timer.ring_by(min((moment for moment in moments if moment > now), default=None))
        execution = running.get()
        if execution is not None and execution.limit is not None and now >= execution.limit:
            execution.interrupt(Reason.TIMEOUT)
            self._ask()
        self._on_strike(number, frame)

    def _on_strike(self, _signal: int, frame: FrameType | None) -> None:
        """Runs in the main thread, between two bytecodes of what blocks the loop, and in its context."""
        execution, task = running.get(), asyncio.current_task(self._loop)
        if execution is None or task is None or execution.has_ended or not execution.is_interrupted:
            return
        if not _is_in_coroutine(frame):
            return
        if task is self._tasks.get(execution):
            execution.strike(time.monotonic())
        elif not execution.shields:  # one that the task has made: once that is out of the way, the task is cancelled
            raise asyncio.CancelledError

    # --- is the loop free? ------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._mailbox.post(self._answer)

    def _answer(self) -> None:
        self._asked_at = None

    def _is_blocked(self) -> bool:
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at >= BLOCKED_AFTER


def _is_in_coroutine(frame: FrameType | None) -> bool:
    """Whether what runs is a coroutine, or what one has called.

    In the loop's own code, which puts a task on its list again after each of its steps, an exception would lose it.
    """
    while frame is not None and not frame.f_code.co_flags & inspect.CO_COROUTINE:
        frame = frame.f_back
    return frame is not None

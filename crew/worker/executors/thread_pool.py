"""Runs several tasks at a time, each in a new thread that is never used again.

An exception that another thread sets may be raised anywhere in this thread, also after the task has ended: it then ends
a thread that has nothing left to do. It interrupts Python code; a blocking call first has to return.
"""

import logging
import threading
from typing import Final

from crew.worker.execution.async_exception import raise_in, sending, stack_of
from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import worker_lost
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import IoThread, OnExecution

logger = logging.getLogger(__name__)

RETRY_DELAY: Final = 1.0  # seconds until a call is retried whose thread could not be started


class TaskThread(threading.Thread):
    """The thread of one task.

    Attributes:
        may_raise: whether it has left Python's own code for its start, where an exception would break the thread.
    """

    may_raise = False


class ThreadExecutor:
    """Runs several tasks at a time, each in a new thread.

    Args:
        slots: executions at a time.
        on_started: called with each execution on the I/O thread.
        on_ended: called with each execution in its own thread. If the interrupt is raised during this call, the call
            is lost; so the watchdog checks `has_left` too.
        io: the I/O thread.
    """

    has_timer = False
    takes = False

    def __init__(
        self, slots: int, buffer: Buffer, held: Held, *, on_started: OnExecution, on_ended: OnExecution, io: IoThread
    ) -> None:
        self.slots = slots
        self._buffer = buffer
        self._held = held
        self._on_started = on_started
        self._on_ended = on_ended
        self._io = io
        self._stopped = threading.Event()

    def fill(self) -> None:
        """Start threads for executions from the buffer while slots are free."""
        while not self._held.is_full(self.slots) and (execution := self._buffer.take_nowait()) is not None:
            if execution.result is not None:
                self._on_ended(execution)
                continue
            thread = TaskThread(target=self._run, args=(execution,), name=f"task {execution.task.name}", daemon=True)
            execution.runner = thread
            self._held.take_slot(execution)
            execution.begin()
            self._on_started(execution)
            # After its messages are written: the thread may never let this one run again.
            self._io.soon(self._start, execution, thread)

    def has_left(self, execution: Execution) -> bool:
        """Whether its thread has ended."""
        thread = _thread_of(execution)
        if thread is None:
            return True
        has_begun = thread.ident is not None
        return not thread.is_alive() if has_begun else execution.has_ended

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        """Raise an interrupt in the thread of `execution`; if that does not run the task yet, it never will."""
        if not (execution.is_interrupted or execution.interrupt(reason)):
            return
        thread = _thread_of(execution)
        if thread is None:
            return
        with sending:
            is_in_task = thread.may_raise and thread.is_alive() and not execution.has_ended
            if is_in_task and execution.interruption.begin():
                raise_in(thread, execution.reason or reason)

    def can_abandon(self, execution: Execution) -> bool:
        """True: only its own thread is blocked by it."""
        return True

    def stack(self, execution: Execution) -> str:
        """The stack of its thread."""
        return stack_of(_thread_of(execution))

    def serve(self) -> None:
        """Block the calling thread until `stop`; it runs no tasks."""
        self._stopped.wait()

    def stop(self) -> None:
        """Have `serve` return."""
        self._stopped.set()

    def _start(self, execution: Execution, thread: TaskThread) -> None:
        """Start its thread. If the system refuses one, the call is retried soon, by this worker or another."""
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            name = execution.task.name
            logger.error(
                "no thread could be started: retrying the call call_id=%s task=%s retry_in=%g error=%s",
                execution.call.id,
                name,
                RETRY_DELAY,
                error,
            )
            execution.decide(
                worker_lost(f"the worker could not start a thread for task {name!r}", retry_after=RETRY_DELAY)
            )
            execution.end()
            self._on_ended(execution)

    def _run(self, execution: Execution) -> None:
        thread = _thread_of(execution)
        assert thread is not None
        thread.may_raise = True  # before the result is read: an interrupt that is not raised has decided it by then
        if execution.result is None:
            execution.run()
        execution.end()
        self._on_ended(execution)


def _thread_of(execution: Execution) -> TaskThread | None:
    return execution.runner if isinstance(execution.runner, TaskThread) else None

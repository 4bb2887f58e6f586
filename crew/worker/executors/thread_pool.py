"""Several tasks at a time, each in a fresh thread that is never used again.

An exception that is set in a thread from outside may land anywhere in it, also after the task has ended: then it ends a
thread that has nothing left to do. Python code is interrupted by it, a blocking call when it returns.
"""

import logging
import threading
from typing import Final

from crew.worker.execution.async_exception import raise_in, sending, stack_of
from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason
from crew.worker.execution.result import worker_lost
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import IoThread, OnExecution

logger = logging.getLogger(__name__)

NO_THREAD_DELAY: Final = 1.0  # seconds until a call is run again for which no thread could be started


class ThreadLane:
    """Several tasks at a time, each in a fresh thread.

    Args:
        slots: how many.
        on_started: called with each execution on the I/O thread.
        on_ended: called with each in its own thread; not where the interrupt lands in that very call, so that who
            interrupts looks at `has_left` too.
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
        self._threads: dict[Execution, threading.Thread] = {}
        self._abandoned: list[threading.Thread] = []
        self._stopped = threading.Event()

    def fill(self) -> None:
        """Start threads for what is in the buffer, as far as slots are free."""
        while len(self._threads) < self.slots and (execution := self._buffer.take_nowait()) is not None:
            if execution.ended is not None:
                self._on_ended(execution)
                continue
            thread = threading.Thread(
                target=self._run, args=(execution,), name=f"task {execution.task.name}", daemon=True
            )
            self._threads[execution] = thread
            execution.begin()
            self._on_started(execution)
            # Once what was said of it has left: the thread may never let this one run again.
            self._io.soon(self._start, execution, thread)

    def running(self) -> list[Execution]:
        """Those whose threads have a slot."""
        return list(self._threads)

    def has_left(self, execution: Execution) -> bool:
        """Whether its thread has ended."""
        thread = self._threads.get(execution)
        if thread is None:
            return True
        has_begun = thread.ident is not None
        return not thread.is_alive() if has_begun else execution.has_ended

    def release(self, execution: Execution) -> None:
        """Give its slot to the next."""
        self._threads.pop(execution, None)

    def interrupt(self, execution: Execution, reason: Reason) -> None:
        """Raise in the thread of `execution`."""
        if not (execution.is_interrupted or execution.interrupt(reason)):
            return
        thread = self._threads.get(execution)
        with sending:
            if thread is not None and thread.is_alive() and not execution.has_ended and execution.owe():
                raise_in(thread, execution.reason or reason)

    def abandon(self, execution: Execution) -> bool:
        """Leave its thread alone, and give its slot to the next."""
        thread = self._threads.pop(execution, None)
        if thread is not None:
            self._abandoned.append(thread)
        return True

    def abandoned(self) -> int:
        """How many threads run on that were left alone."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return len(self._abandoned)

    def stack(self, execution: Execution) -> str:
        """Where its thread is."""
        return stack_of(self._threads.get(execution))

    def serve(self) -> None:
        """Hold the calling thread, which runs no tasks here."""
        self._stopped.wait()

    def stop(self) -> None:
        """Return from `serve`."""
        self._stopped.set()

    def _start(self, execution: Execution, thread: threading.Thread) -> None:
        """Start its thread; where the host has no room for one, the call is run again soon, here or elsewhere."""
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            name = execution.task.name
            logger.error(
                "call %s of task %s is run again in %g s: no thread for it (%s)",
                execution.call.id,
                name,
                NO_THREAD_DELAY,
                error,
            )
            execution.decide(
                worker_lost(f"the worker could start no thread for task {name!r}", retry_after=NO_THREAD_DELAY)
            )
            execution.has_ended = True
            self._on_ended(execution)

    def _run(self, execution: Execution) -> None:
        if execution.ended is None:
            execution.run()
        execution.has_ended = True
        self._on_ended(execution)

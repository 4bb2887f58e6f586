"""Task group: the tasks of one kind (plain functions or `async def`), with their executor, buffer and consumer.

A worker process has one group of plain functions, one of `async def` tasks, or both. The first one has the main thread.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import Executor, OnExecution
from crew.worker.executors.event_loop import EventLoopExecutor
from crew.worker.executors.main_thread import MainThreadExecutor
from crew.worker.executors.thread_pool import ThreadExecutor
from crew.worker.mailbox import Mailbox
from crew.worker.options import Options
from crew.worker.replacement import Replacement
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Task

STOP_TIMEOUT: Final = 1.0  # seconds for the thread of an event loop to end, after its last task
ANNOUNCE_TIMEOUT: Final = 0.2  # seconds that a task waits at most until its start is announced to its caller


class TaskGroup:
    """Runs `tasks`, which are all of one kind.

    Args:
        number: of this process in the shared state.
        mailbox: of the I/O thread.
        replacement: decides after how many tasks, and with how much memory, the process is replaced; None: never.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        options: Options,
        *,
        number: int,
        shared_state: SharedState,
        mailbox: Mailbox,
        replacement: Replacement | None = None,
    ) -> None:
        self.tasks = list(tasks)
        self.consumer: TaskConsumer
        self._handle_end: OnExecution  # on the I/O thread
        self._options = options
        self._number = number
        self._shared_state = shared_state
        self._mailbox = mailbox
        self._replacement = replacement
        self._held = Held()
        self._buffer = Buffer(None if replacement is None else replacement.may_start)
        self._executor = self._make_executor()

    @property
    def needs_alarm(self) -> bool:
        """Whether the kernel timer interrupts tasks of this group."""
        return not isinstance(self._executor, ThreadExecutor)

    @property
    def running(self) -> list[Execution]:
        """The executions that have a slot."""
        return self._held.running()

    def open(self, consumer_class: Callable[..., TaskConsumer] = TaskConsumer, **parts: Any) -> None:
        """Begin to consume; `parts` are arguments of the consumer."""
        zombies = self._executor.slots if self._options.zombies is None else self._options.zombies
        self.consumer = consumer_class(
            self.tasks,
            held=self._held,
            buffer=self._buffer,
            executor=self._executor,
            shared_state=self._shared_state,
            grace=self._options.grace,
            zombies=zombies,
            fixed_prefetch=self._options.prefetch or None,
            debug=self._options.is_debugging,
            **parts,
        )
        self._handle_end = self.consumer.on_ended if self._replacement is None else self._on_ended

    def serve(self) -> None:
        """Run tasks in the calling thread until `stop`."""
        self._executor.serve()

    def serve_in_background(self) -> threading.Thread:
        """Run tasks in a separate thread until `stop`; returns it."""
        self._thread = threading.Thread(target=self._executor.serve, name="crew asyncio tasks", daemon=True)
        self._thread.start()
        return self._thread

    def join(self) -> bool:
        """Wait after `stop` until that thread has ended; returns False if a task blocks it."""
        self._thread.join(STOP_TIMEOUT)
        return not self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Event loop of its tasks; None if they are plain functions."""
        return self._executor.loop if isinstance(self._executor, EventLoopExecutor) else None

    def stop(self) -> None:
        """Start no more tasks."""
        self._executor.stop()

    # --- callbacks of the executor ----------------------------------------------------------------------------------

    def _make_executor(self) -> Executor:
        is_async = bool(self.tasks) and self.tasks[0].is_async
        if self._options.threads == 1 and not is_async:
            return MainThreadExecutor(
                self._buffer, self._held, on_started=self._on_main_started, on_ended=self._on_main_ended
            )
        kind, slots = (
            (EventLoopExecutor, self._options.concurrency) if is_async else (ThreadExecutor, self._options.threads)
        )
        return kind(
            slots,
            self._buffer,
            self._held,
            on_started=self._on_started,
            on_ended=self._post_end,
            io=self._mailbox,
        )

    def _on_started(self, execution: Execution) -> None:
        """Handle a start, on the I/O thread."""
        self._shared_state.begin(self._number, execution)
        self.consumer.starts.handle(execution)

    def _on_ended(self, execution: Execution) -> None:
        """Handle an end, on the I/O thread, and check the memory of the process."""
        self.consumer.on_ended(execution)
        assert self._replacement is not None
        self._replacement.check_memory()

    def _post_end(self, execution: Execution) -> None:
        """Handle an end, in any thread."""
        self._mailbox.post(self._handle_end, execution)

    def _on_main_started(self, execution: Execution) -> None:
        """Handle a start, in the main thread: wait for the announcement, as the task may never release the GIL."""
        self._shared_state.begin(self._number, execution)
        need = self.consumer.starts.need(execution)
        if need == "announce":
            self._mailbox.post_and_wait(self.consumer.starts.handle, execution, timeout=ANNOUNCE_TIMEOUT)
        elif need == "acknowledge":
            self._mailbox.post(self.consumer.starts.handle, execution, False)

    def _on_main_ended(self, execution: Execution) -> None:
        """Handle an end, in the main thread."""
        self._shared_state.end(execution)
        self._mailbox.post(self._handle_end, execution)


def task_groups(
    tasks: Iterable[Task],
    options: Options,
    *,
    number: int,
    shared_state: SharedState,
    mailbox: Mailbox,
    replacement: Replacement | None = None,
) -> list[TaskGroup]:
    """Make a group for each kind among `tasks`; that of plain functions is the first."""
    all_tasks = list(tasks)
    kinds = [task.is_async for task in all_tasks]
    return [
        TaskGroup(
            [task for task in all_tasks if task.is_async is kind],
            options,
            number=number,
            shared_state=shared_state,
            mailbox=mailbox,
            replacement=replacement,
        )
        for kind in sorted(set(kinds))
    ]

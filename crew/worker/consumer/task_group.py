"""An executor with what feeds it: where all tasks of one kind run.

A worker process has one station for plain functions, one for `async def`, or both. The first one holds the main thread.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from crew.protocol.topology import HTTP_TASK
from crew.worker.consumer.consumer import TaskConsumer
from crew.worker.execution.execution import Execution
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.contract import Executor
from crew.worker.executors.event_loop import EventLoopExecutor
from crew.worker.executors.main_thread import MainThreadExecutor
from crew.worker.executors.thread_pool import ThreadExecutor
from crew.worker.mailbox import Mailbox
from crew.worker.options import Options
from crew.worker.replacement import Replacement
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Task
from crew.worker.url_jobs.consumer import HttpConsumer

STOPS_WITHIN: Final = 1.0  # seconds for an event loop that runs nothing any longer
WORD_OUT_WITHIN: Final = 0.2  # seconds that a task waits at most until its caller was told of its start


class TaskGroup:
    """Runs `tasks`, which are of one kind.

    Args:
        number: of this process in the `ledger`.
        mailbox: of the I/O thread.
        replacement: decides when the process is replaced; None: never for what it has run.
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
        self._options = options
        self._number = number
        self._shared_state = shared_state
        self._mailbox = mailbox
        self._replacement = replacement
        self._buffer = Buffer(None if replacement is None else replacement.may_start)
        self._executor = self._make_executor()

    @property
    def needs_alarm(self) -> bool:
        """Whether the kernel timer interrupts what runs here in the main thread."""
        return not isinstance(self._executor, ThreadExecutor)

    def open(self, **parts: Any) -> None:
        """Begin to consume; `parts` are arguments of TaskConsumer."""
        zombies = self._executor.slots if self._options.zombies is None else self._options.zombies
        limit = self._options.requests_per_host
        kind: Callable[..., TaskConsumer] = TaskConsumer
        if limit is not None and any(task.name == HTTP_TASK for task in self.tasks):
            kind = functools.partial(HttpConsumer, limit=limit)
        self.consumer = kind(
            self.tasks,
            buffer=self._buffer,
            executor=self._executor,
            shared_state=self._shared_state,
            grace=self._options.grace,
            zombies=zombies,
            fixed_prefetch=self._options.prefetch or None,
            debug=self._options.is_debugging,
            **parts,
        )

    def serve(self) -> None:
        """Hold the calling thread until `stop`."""
        self._executor.serve()

    def serve_in_background(self) -> None:
        """Run in a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self._executor.serve, name="crew asyncio tasks", daemon=True)
        self._thread.start()

    def join(self) -> bool:
        """After `stop`: wait until that thread has ended; False where something blocks it."""
        self._thread.join(STOPS_WITHIN)
        return not self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop on which its tasks run; None where they are plain functions."""
        return self._executor.loop if isinstance(self._executor, EventLoopExecutor) else None

    def stop(self) -> None:
        """Run nothing more."""
        self._executor.stop()

    # --- events of the executor ---------------------------------------------------------------------------------------

    def _make_executor(self) -> Executor:
        is_async = bool(self.tasks) and self.tasks[0].is_async
        if self._options.threads == 1 and not is_async:
            return MainThreadExecutor(self._buffer, on_started=self._on_main_started, on_ended=self._on_main_ended)
        kind, slots = (
            (EventLoopExecutor, self._options.concurrency) if is_async else (ThreadExecutor, self._options.threads)
        )
        return kind(
            slots,
            self._buffer,
            on_started=self._on_started,
            on_ended=functools.partial(self._mailbox.post, self._on_ended),
            io=self._mailbox,
        )

    def _on_started(self, execution: Execution) -> None:
        """On the I/O thread."""
        self._shared_state.begin(self._number, execution)
        self.consumer.on_started(execution)

    def _on_ended(self, execution: Execution) -> None:
        """On the I/O thread."""
        self.consumer.on_ended(execution)
        if self._replacement is not None:
            self._replacement.look()

    def _on_main_started(self, execution: Execution) -> None:
        """In the main thread: the task may be one that lets the I/O thread never run again, so that is asked first."""
        self._shared_state.begin(self._number, execution)
        if self.consumer.announces(execution):
            self._mailbox.ask(self.consumer.on_started, execution, patience=WORD_OUT_WITHIN)
        elif self.consumer.ends_delivery(execution):
            self._mailbox.post(self.consumer.on_started, execution, False)

    def _on_main_ended(self, execution: Execution) -> None:
        self._shared_state.end(execution)
        self._mailbox.post(self._on_ended, execution)


def task_groups(
    tasks: Iterable[Task],
    options: Options,
    *,
    number: int,
    shared_state: SharedState,
    mailbox: Mailbox,
    replacement: Replacement | None = None,
) -> list[TaskGroup]:
    """One for each kind among `tasks`, that of plain functions first."""
    everything = list(tasks)
    kinds = [task.is_async for task in everything]
    return [
        TaskGroup(
            [task for task in everything if task.is_async is kind],
            options,
            number=number,
            shared_state=shared_state,
            mailbox=mailbox,
            replacement=replacement,
        )
        for kind in sorted(set(kinds))
    ]

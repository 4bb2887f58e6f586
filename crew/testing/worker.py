"""A worker in the process of a test: the worker process of crew, with its tasks in threads and without a supervisor.

What it cannot do: interrupt a plain function that blocks in C or in a `time.sleep` that was imported by name, kill a
task, or lose a process. `async def` tasks are canceled as in a real worker, and plain functions are interrupted as in
`crew worker --threads 10`; a `time.sleep` of theirs ends at once.
"""

import asyncio
import concurrent.futures
import copy
import inspect
import logging
import socket
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final, NoReturn

import msgspec

from crew.testing.clock import Clock
from crew.worker.consumer.task_group import TaskGroup
from crew.worker.context import context
from crew.worker.hooks import hooks
from crew.worker.options import Options
from crew.worker.process import WorkerProcess
from crew.worker.shared_state.messages import READY
from crew.worker.shared_state.shared_state import SharedState
from crew.worker.task import Registry, Task, registry

logger = logging.getLogger(__name__)

THREADS: Final = 10  # plain functions at a time
START_TIMEOUT: Final = 30.0  # seconds until it is connected
_SLOTS: Final = 1024  # of the shared state
_CLOSING_STEPS: Final = 5  # iterations of the event loop
_NUMBER: Final = 0  # of the only process


class InProcessWorker(WorkerProcess):
    """Serves `tasks` in threads of this process.

    Args:
        settings: attributes of `context.settings` while it runs.
    """

    def __init__(self, tasks: Iterable[Task], options: Options, *, clock: Clock, settings: dict[str, Any]) -> None:
        served = Registry()
        for task in tasks:
            served.add(task)
        served.check()
        self._here, there = socket.socketpair()
        super().__init__(served, options, number=_NUMBER, shared_state=SharedState(1, _SLOTS), supervisor=there)
        self._clock = clock
        self._settings = settings
        self._settings_before = dict(vars(context.settings))
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._threads: list[threading.Thread] = []
        clock.adopt(self._loop)
        for group in self._task_groups:
            if group.loop is not None:
                clock.adopt(group.loop)

    def __repr__(self) -> str:
        return f"<InProcessWorker: {', '.join(task.name for task in self._registry)}>"

    def start(self) -> None:
        """Run the start hooks, start the threads, and return when calls are served.

        Raises:
            SettingsError, ConnectionError: the broker refuses it.
        """
        vars(context.settings).update(self._settings, uuid=self.id, options=self._options)
        for hook in hooks.start:
            self._run_hook(hook.function)
        context.pubsub.bind(self._publish)
        self._clock.add_probe(self._is_busy)
        for group in self._task_groups:
            thread = group.serve_in_background()
            if group.loop is not None:
                self._clock.enlist(thread)
        thread = threading.Thread(target=self._run, name="crew worker I/O", daemon=True)
        self._threads.append(thread)
        thread.start()
        self._clock.enlist(thread)
        self._ready.result(START_TIMEOUT)

    def stop(self) -> None:
        """Finish the running tasks within the `drain` of the options, and end; idempotent."""
        if not self._threads:
            return
        self._mailbox.post(self._stopping.set)
        self._ended.result()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        for group in self._task_groups:
            group.join()
        self._clock.remove_probe(self._is_busy)
        for hook in reversed(hooks.stop):
            self._run_hook(hook.function)
        context.pubsub.bind(None)
        vars(context.settings).clear()
        vars(context.settings).update(self._settings_before)
        for end in (self._here, self._supervisor):
            end.close()
        for group in self._task_groups:
            if group.loop is not None:
                group.loop.close()
        self._loop.close()

    def _run(self) -> None:
        try:
            self._run_io()
            self._loop.run_until_complete(_finish_closing())
        finally:
            if not self._ready.done():
                fault = self._consuming.last_error or RuntimeError("the worker has not started: see the log")
                self._ready.set_exception(fault)
            self._ended.set_result(None)

    def _run_hook(self, function: Any) -> None:
        value = function()
        if inspect.isawaitable(value):
            loop = next((group.loop for group in self._task_groups if group.loop), None) or self._loop

            async def awaited() -> None:
                await value

            loop.run_until_complete(awaited())

    def _is_busy(self) -> bool:
        """Whether a plain function runs, neither sleeping nor waiting for another task: no time may pass then."""
        return any(self._runs(group) for group in self._task_groups if group.loop is None)

    def _runs(self, group: TaskGroup) -> bool:
        for execution in group.running:
            thread = execution.runner if isinstance(execution.runner, threading.Thread) else None
            waits_for = execution.waits_for
            if execution.interruption.is_pending and not execution.interruption.shields:
                self._clock.wake(thread)  # it sleeps: the interrupt is raised when it runs
                return True
            if not self._clock.sleeps(thread) and (waits_for is None or waits_for.done()):
                return True
        return False

    def _send(self, message: bytes) -> None:
        """Handle what the worker process reports to its supervisor."""
        if message == READY and not self._ready.done():
            self._ready.set_result(None)

    def _mark_alive(self) -> None:
        """Do nothing: no supervisor looks."""

    async def _force_exit(self, code: int) -> NoReturn:
        """A real process would exit now; this one goes on."""
        raise RuntimeError("a task cannot be interrupted: a real worker process would have been replaced")


async def _finish_closing() -> None:
    """Let the transports of closed connections close their sockets: a real worker process ends instead."""
    for _ in range(_CLOSING_STEPS):
        await asyncio.sleep(0)


def find(given: Iterable[Any], *, scale: float = 1.0) -> list[Task]:
    """The tasks in `given`: functions below `@Task`, their names, `Task`s, handler classes, or modules with tasks.

    Args:
        scale: factor for the tasks' timeouts and retry delays.

    Raises:
        ValueError: one of them is no task.
    """
    found: dict[str, Task] = {}
    for one in given:
        matches = [task for task in registry if _is(task, one)] or ([one] if isinstance(one, Task) else [])
        if not matches:
            raise ValueError(
                f"{one!r} is no task: pass a function below @Task, the name of a task, or a module with tasks"
            )
        found.update({task.name: task for task in matches})
    return [_scaled(task, scale) for task in found.values()]


def _is(task: Task, given: Any) -> bool:
    if isinstance(given, ModuleType):
        return getattr(task.function, "__module__", None) == given.__name__
    return given is task or given is task.function or given is task.handler or (given == task.name)


def _scaled(task: Task, scale: float) -> Task:
    if scale == 1:
        return task
    scaled = copy.copy(task)
    scaled.timeout = None if task.timeout is None else task.timeout * scale
    first, longest = task.retry.backoff
    scaled.retry = msgspec.structs.replace(task.retry, backoff=(first * scale, longest * scale))
    return scaled

"""Executors for tests: recording tasks, executors with their callbacks, and a fake executor."""

import contextlib
import functools
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from crew.errors import Interrupt
from crew.worker.execution.execution import Execution
from crew.worker.execution.held import Held
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.executors.buffer import Buffer
from crew.worker.executors.event_loop import EventLoopExecutor
from crew.worker.executors.main_thread import MainThreadExecutor
from crew.worker.executors.thread_pool import ThreadExecutor
from tests.support.waiting import eventually

INTERRUPTED_WITHIN = 0.050  # seconds after the deadline, as promised


def punctual(attempt: Callable[[], float]) -> None:
    """Assert that an interrupt comes in time; `attempt` returns its delay in seconds.

    There are three attempts: on a busy machine any interrupt may be late, but a bug makes each one late.
    """
    late = [attempt()]
    while len(late) < 3 and late[-1] >= INTERRUPTED_WITHIN:
        late.append(attempt())
    assert min(late) >= 0
    assert late[-1] < INTERRUPTED_WITHIN, late


class Recorder:
    """A task that records its start, interrupts and clean-up.

    Attributes:
        has_begun: whether it runs, or ran.
        interrupted: reason and time.monotonic() of each interrupt.
        cleaned_up: how often its `finally` ran.
    """

    def __init__(self, body: Callable[[], Any], *, swallow: int = 0) -> None:
        self._body = body
        self._swallow = swallow
        self.has_begun = False
        self.interrupted: list[tuple[str, float]] = []
        self.cleaned_up = 0

    def __call__(self, data: Any) -> Any:
        try:
            self.has_begun = True
            while True:
                try:
                    return self._body()
                except Interrupt as interrupt:
                    self.interrupted.append((interrupt.reason, time.monotonic()))
                    if len(self.interrupted) > self._swallow:
                        raise
        finally:
            self.cleaned_up += 1

    def reasons(self) -> list[str]:
        """The reason of each interrupt."""
        return [reason for reason, _ in self.interrupted]

    def late(self, execution: Execution) -> float:
        """Seconds from the limit to the only interrupt."""
        ((_, when),) = self.interrupted
        assert execution.limit is not None
        return when - execution.limit


def endless_loop() -> None:
    """Use the CPU in an endless loop."""
    number = 0
    while True:
        number = abs(number)


def busy_for(seconds: float, *, pause: float | None = None) -> Callable[[], str]:
    """A function that runs for `seconds`, without or with short pauses."""

    def body() -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if pause is not None:
                time.sleep(pause)
        return "value"

    return body


def _locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _reading() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


HANGING = {
    "an endless loop": endless_loop,
    "sleep": lambda: time.sleep(60),
    "a lock": _locked,
    "a queue": lambda: queue.Queue[None]().get(),
    "a socket": _reading,
}


class Main:
    """A main thread executor that records its callbacks; needs the fixture `signals`."""

    def __init__(self, **options: float) -> None:
        self.buffer = Buffer()
        self.started: list[Execution] = []
        self.ended: list[Execution] = []
        self.held = Held()
        self.executor = MainThreadExecutor(
            self.buffer, self.held, on_started=self.started.append, on_ended=self._on_ended, **options
        )

    def run(self, *executions: Execution) -> None:
        """Run all executions in the main thread."""
        for execution in executions:
            self.buffer.put(execution)
        self.executor.stop()
        self.executor.serve()
        assert self.ended == list(executions)

    def run_beside(self, other: Callable[[], object], *executions: Execution) -> None:
        """Run all executions, and `other` in a thread, which plays the I/O thread."""
        thread = threading.Thread(target=other)
        thread.start()
        self.run(*executions)
        thread.join(5)

    def _on_ended(self, execution: Execution) -> None:
        self.held.remove(execution)
        self.ended.append(execution)


class PlayedIoThread:
    """A fake I/O thread that sends everything at once."""

    def __init__(self, soon: Callable[..., None] = lambda function, *args: function(*args)) -> None:
        self.soon = soon

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        """Call the function after `seconds`, in a new thread."""
        threading.Timer(seconds, function, args).start()


class Threads:
    """A thread executor that records its callbacks; the test plays the I/O thread."""

    def __init__(self, slots: int) -> None:
        self.buffer = Buffer()
        self.started: list[Execution] = []
        self.ended: list[Execution] = []
        self.held = Held()
        self.executor = ThreadExecutor(
            slots,
            self.buffer,
            self.held,
            on_started=self.started.append,
            on_ended=self.ended.append,
            io=PlayedIoThread(),
        )

    def put(self, *executions: Execution) -> None:
        """Add executions to the buffer."""
        for execution in executions:
            self.buffer.put(execution)
        self.executor.fill()

    def settle(self) -> list[Execution]:
        """Release ended executions, interrupt those over their limit, fill the slots; returns the running ones."""
        for execution in self.held.running():
            if self.executor.has_left(execution):
                self.held.remove(execution)
            elif execution.limit is not None and time.monotonic() >= execution.limit and not execution.is_interrupted:
                self.executor.interrupt(execution, InterruptReason.TIMEOUT)
        self.executor.fill()
        return self.held.running()

    def run(self, *executions: Execution) -> None:
        """Run all executions."""
        self.put(*executions)
        deadline = time.monotonic() + 10
        while self.settle():
            assert time.monotonic() < deadline, self.held.running()
            time.sleep(0.0002)

    def interrupt(
        self, execution: Execution, task: Recorder, reason: InterruptReason = InterruptReason.CANCELED
    ) -> None:
        """Interrupt the task after its start, and wait until its thread has ended."""
        eventually(lambda: task.has_begun)
        self.executor.interrupt(execution, reason)
        eventually(lambda: self.executor.has_left(execution))


class Coroutines:
    """An event loop executor that records its callbacks; the test or another thread plays the I/O thread.

    Attributes:
        unsent: starts whose announcement has not been sent, if the test holds them back.
    """

    def __init__(self, slots: int = 10, *, holds: bool = False, **options: float) -> None:
        self.buffer = Buffer()
        self.started: list[Execution] = []
        self.ended: list[Execution] = []
        self.unsent: list[Callable[[], object]] = []
        self._holds = holds
        self.held = Held()
        self.executor = EventLoopExecutor(
            slots,
            self.buffer,
            self.held,
            on_started=self.started.append,
            on_ended=self.ended.append,
            io=PlayedIoThread(self._soon),
            **options,
        )

    def put(self, *executions: Execution) -> None:
        """Add executions to the buffer."""
        for execution in executions:
            self.buffer.put(execution)
        self.executor.fill()

    def settle(self) -> list[Execution]:
        """Release ended executions and fill the slots; returns the running ones."""
        for execution in self.held.running():
            if self.executor.has_left(execution):
                self.held.remove(execution)
        self.executor.fill()
        return self.held.running()

    def ends(self, *executions: Execution) -> None:
        """Wait until the executions have ended."""
        eventually(lambda: set(executions) <= set(self.ended))

    def _soon(self, function: Callable[..., object], *args: Any) -> None:
        if self._holds:
            self.unsent.append(functools.partial(function, *args))
        else:
            function(*args)


@contextlib.contextmanager
def coroutines(slots: int = 10, *, holds: bool = False, **options: float) -> Iterator[Coroutines]:
    """An event loop executor that runs in its own thread; `options` are durations of it."""
    made = Coroutines(slots, holds=holds, **options)
    thread = threading.Thread(target=made.executor.serve)
    thread.start()
    try:
        yield made
    finally:
        made.executor.stop()
        thread.join(5)
        made.executor._loop.close()  # in a worker the process ends with it


class PlayedExecutor:
    """A fake Executor: the test decides what runs, and whether it ends.

    Attributes:
        frees_slot: whether an abandoned execution frees its slot.
        text: the stack of the running execution.
    """

    def __init__(self, *, slots: int = 1, has_timer: bool = False) -> None:
        self.slots = slots
        self.has_timer = has_timer
        self.takes = False
        self.frees_slot = True
        self.text = ""
        self.held = Held()
        self.was_abandoned: list[Execution] = []
        self.interrupts: list[tuple[Execution, InterruptReason]] = []
        self.interrupted_at: list[float] = []  # time.monotonic() of each

    @property
    def executions(self) -> list[Execution]:
        """The executions that have a slot, the oldest first."""
        return self.held.running()

    def begin(self, execution: Execution) -> Execution:
        """Start the execution."""
        execution.begin()
        self.held.take_slot(execution)
        return execution

    def fill(self) -> None: ...

    def has_left(self, execution: Execution) -> bool:
        return execution.has_ended

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        self.interrupts.append((execution, reason))
        self.interrupted_at.append(time.monotonic())
        execution.interrupt(reason)

    def can_abandon(self, execution: Execution) -> bool:
        self.was_abandoned.append(execution)
        return self.frees_slot

    def stack(self, execution: Execution) -> str:
        return self.text

    def serve(self) -> None: ...

    def stop(self) -> None: ...

"""Interface of the three executors, as the consumer and the watchdog see them.

`MainThreadExecutor` runs one task at a time in the main thread of the process, because only there a signal can
interrupt a blocking call. `ThreadExecutor` runs several, each in its own thread. `EventLoopExecutor` runs coroutines on
an event loop. In each of them `Execution.interrupt` decides first, and only then the interrupt is raised in the task.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt import InterruptReason

RESEND_INTERVAL: Final = 1.0  # seconds between two interrupts of one task: time for it to clean up

OnExecution = Callable[[Execution], None]


class IoThread(Protocol):
    """What an executor needs from the I/O thread. It calls these methods on that thread."""

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` after all earlier messages are written to the socket."""

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` after `seconds`."""


class Executor(Protocol):
    """Runs executions: main thread, thread pool or event loop.

    Attributes:
        slots: executions at a time.
        has_timer: whether it interrupts at the limit by itself, and again until the task ends.
        takes: whether its thread takes executions from the buffer by itself, so that `fill` does nothing.
    """

    slots: int
    has_timer: bool
    takes: bool

    def fill(self) -> None:
        """Start executions from the buffer while slots are free. Called on the I/O thread."""

    def has_left(self, execution: Execution) -> bool:
        """Whether nothing of `execution` runs any longer; `on_ended` may not have been called for it."""

    def interrupt(self, execution: Execution, reason: InterruptReason) -> None:
        """Interrupt `execution`; call it again if the task runs on. Called on the I/O thread."""

    def can_abandon(self, execution: Execution) -> bool:
        """Whether the executor can do without the slot of `execution`, which cannot be interrupted.

        False: it blocks the whole executor.
        """

    def stack(self, execution: Execution) -> str:
        """The stack of `execution` as the text of a traceback; "" if it has ended."""

    def serve(self) -> None:
        """Run in the calling thread until `stop`."""

    def stop(self) -> None:
        """Have `serve` return after the running task has ended. Called on the I/O thread."""

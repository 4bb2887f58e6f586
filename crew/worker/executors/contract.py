"""Where tasks run, as those see it who feed and watch them: one contract, three lanes.

`MainLane` runs one task at a time in the main thread of the process, because only there a signal can interrupt what
blocks. `ThreadLane` runs several, each in a thread of its own. `AsyncLane` runs coroutines on an event loop. In all of
them `Execution.interrupt` decides first, and only what was decided is then raised in the task.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from crew.worker.execution.execution import Execution
from crew.worker.execution.interrupt_reason import Reason

RESEND: Final = 1.0  # seconds between two interrupts of a task that goes on: time for it to clean up

OnExecution = Callable[[Execution], None]


class IoThread(Protocol):
    """What a lane asks of the I/O thread, when it is called there."""

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` when what was sent before is out."""

    def later(self, seconds: float, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` after so many seconds."""


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

    def abandon(self, execution: Execution) -> bool:
        """Go on without `execution`, which nothing stops; False where the lane itself is stuck with it."""

    def abandoned(self) -> int:
        """How many run on that were abandoned."""

    def stack(self, execution: Execution) -> str:
        """Where `execution` is, as the text of a traceback; "" where it has ended."""

    def serve(self) -> None:
        """Hold the calling thread until `stop`."""

    def stop(self) -> None:
        """Let `serve` return once the running task has ended. Called on the I/O thread."""

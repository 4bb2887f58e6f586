"""`with context.shield():` delays an interrupt until the end of the block."""

from types import TracebackType
from typing import TYPE_CHECKING

from crew.worker.execution import async_exception

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution


class Shield:
    """A section of `execution` in which no interrupt is raised: it is raised at the end of the section.

    Shields nest. The caller gets its reply on time all the same. A task that is still shielded at the end of its grace
    is stopped together with its process. If the interrupt arrives at the moment in which the section is entered, it is
    raised before the section begins.
    """

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    def __enter__(self) -> None:
        execution = self._execution
        # The thread that interrupts marks the interrupt as pending first, and checks for shields second. This does the
        # same in the opposite order. So either that thread sees the shield, or this one sees the pending interrupt.
        execution.shields += 1
        if execution.shields == 1 and execution.has_pending_interrupt:
            try:
                async_exception.retract()
            finally:  # the interrupt may be raised at just this line
                execution.shields -= 1
            execution.raise_pending()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        execution = self._execution
        execution.shields -= 1
        if execution.shields == 0 and execution.has_pending_interrupt:
            async_exception.retract()
            execution.raise_pending()

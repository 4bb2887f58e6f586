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
        interruption = self._execution.interruption
        # The thread that interrupts marks the interrupt as pending first, and checks for shields second. This does the
        # same in the opposite order. So either that thread sees the shield, or this one sees the pending interrupt.
        interruption.shields += 1
        if interruption.shields == 1 and interruption.is_pending:
            try:
                async_exception.retract()
            finally:  # the interrupt may be raised at just this line
                interruption.shields -= 1
            self._execution.raise_pending()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interruption = self._execution.interruption
        interruption.shields -= 1
        if interruption.shields == 0 and interruption.is_pending:
            async_exception.retract()
            self._execution.raise_pending()

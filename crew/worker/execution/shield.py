"""`with context.shield():` puts an interrupt off until its end."""

from types import TracebackType
from typing import TYPE_CHECKING

from crew.worker.execution import async_exception

if TYPE_CHECKING:
    from crew.worker.execution.execution import Execution


class Shield:
    """A section of `execution` that no interrupt breaks: what would have struck inside is raised at its end.

    Shields nest. The caller is answered on time all the same, and a task that is still shielded at the end of its grace
    goes with its process. One that enters in just the moment of an interrupt is interrupted before it begins.
    """

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution

    def __enter__(self) -> None:
        execution = self._execution
        # The thread that interrupts owes first and looks for shields second; here it is the other way round. So
        # whatever the order, either it sees the shield, or this sees what is owed.
        execution.shields += 1
        if execution.shields == 1 and execution.is_owed:
            try:
                async_exception.retract()
            finally:  # it may land just here
                execution.shields -= 1
            execution.pay()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        execution = self._execution
        execution.shields -= 1
        if execution.shields == 0 and execution.is_owed:
            async_exception.retract()
            execution.pay()

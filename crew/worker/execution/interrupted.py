"""The result of an interrupted execution: what its caller gets, by the reason of the interrupt."""

from typing import Protocol

from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import REDELIVERED, Result, failed_with, timed_out, worker_lost


class NestedCall(Protocol):
    """A call that a task has made, as its execution sees it."""

    @property
    def task(self) -> str:
        """Name of the called task."""

    @property
    def has_started(self) -> bool:
        """Whether a worker has started it."""

    def done(self) -> bool:
        """Whether it has ended."""


def interrupted(
    call: Call, reason: InterruptReason, *, ran: float, runs_once: bool, waits_for: NestedCall | None
) -> Result:
    """The result of `call`, whose execution is interrupted.

    Args:
        ran: seconds that its task has run.
        runs_once: whether its delivery was acknowledged at its start.
        waits_for: the nested call whose value its task waits for.
    """
    task = call.task
    match reason:
        case InterruptReason.TIMEOUT:
            return timed_out(f"task {task!r} was interrupted after {ran:.3f} s{_waiting(waits_for)}")
        case InterruptReason.CANCELED:
            return failed_with(Outcome.CANCELED, Failure(type_name="Canceled", message=f"task {task!r} was canceled"))
        case InterruptReason.DRAIN if call.persistent and (runs_once or call.start_by is not None):
            return worker_lost(f"the worker of task {task!r} was stopped while it ran", retry_after=0.0)
        case InterruptReason.DRAIN if call.persistent:
            return REDELIVERED
        case InterruptReason.DRAIN:
            return worker_lost(
                f"the worker of task {task!r} was stopped while it ran; the call is not persistent and is not retried"
            )


def _waiting(nested: NestedCall | None) -> str:
    """The nested call that an interrupted task waited for. If no worker had started it, slots may be too few."""
    if nested is None:
        return ""
    return f", while it waited for task {nested.task!r}" + (
        "" if nested.has_started else ", which no worker had started"
    )

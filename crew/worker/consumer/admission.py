"""Admission: decides whether a delivered call may run, and if not, which reply it gets instead."""

import enum
import socket
import time
from typing import Final

import msgspec

from crew.amqp import Delivery
from crew.protocol import deadline
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result, deadline_passed, expired, failed_with, timed_out, worker_lost
from crew.worker.job_reports.revocation_sync import RevocationSync
from crew.worker.shared_state.exit_status import describe_exit
from crew.worker.shared_state.shared_state import OVERDUE, SharedState
from crew.worker.task import MAX_TIMEOUT, Task

CRASH_COUNT_DELAY: Final = 0.2  # seconds for the supervisor to notice that a process has died, on a busy machine
MAX_DELIVERIES: Final = 3  # processes of one worker that a call may crash; each supervisor counts for itself


_UNBOUNDED_JOB: Final = f"a job without a timeout of {MAX_TIMEOUT:.0f} s or less"


class Admitted(msgspec.Struct, frozen=True):
    """The call may run.

    Attributes:
        crashes: number of processes of this worker that have died while they ran it.
    """

    crashes: int


class Refused(msgspec.Struct, frozen=True):
    """The call must not run.

    Attributes:
        result: for its reply.
        executions: how often it was started.
        exit_status: how the last process that ran it ended; "" if its message is not parked.
    """

    result: Result
    executions: int
    exit_status: str


class Wait(enum.Enum):
    """The call waits before this is decided."""

    FOR_STORE = enum.auto()  # until the store of the job has reported its revoked jobs
    FOR_CRASH_COUNT = enum.auto()  # for CRASH_COUNT_DELAY


Verdict = Admitted | Refused | Wait

ADMITTED: Final = Admitted(crashes=0)


class Admission:
    """Decides on delivered calls. It does no I/O.

    Args:
        revoked: calls that were canceled before their start.
        revocation_sync: knows which stores have reported their revoked jobs.
    """

    def __init__(self, shared_state: SharedState, revoked: RevokedCalls, revocation_sync: RevocationSync) -> None:
        self._shared_state = shared_state
        self._revoked = revoked
        self._revocation_sync = revocation_sync

    def decide(self, delivery: Delivery, call: Call, task: Task, *, has_waited: bool = False) -> Verdict:
        """Decide whether `call` may run.

        The broker redelivers a call within a millisecond after its process died. The supervisor may not have counted
        that crash yet, so a redelivered call that still seems to run waits for CRASH_COUNT_DELAY.

        Args:
            has_waited: whether it has waited for the crash count.
        """
        is_new = not (delivery.redelivered or call.attempt > 1)
        if not has_waited:
            if call.is_job and call.reply_to is not None and self._revocation_sync.is_awaiting(call.reply_to):
                return Wait.FOR_STORE
            if delivery.redelivered and self._shared_state.is_running(call.key):
                return Wait.FOR_CRASH_COUNT
        crashes = 0 if is_new else self._shared_state.crashes(call.key)
        status = self._shared_state.exit_status(call.key) if crashes else ""
        revoked = self._revoked.get(call.id, call.deadline, is_job=call.is_job)
        is_past = deadline.is_past(call.deadline, call.sender_time(time.time()))
        if not (crashes or revoked or is_past or call.start_by):  # as for most calls
            return ADMITTED
        refused = refusal(call, task, crashes, revoked, exit_status=status)
        if refused is None and is_new and call.start_by is not None and waited_too_long(call):
            refused = expired(call)
        if refused is None:
            return Admitted(crashes) if crashes else ADMITTED
        is_parked = refused.outcome is Outcome.WORKER_LOST and crashes >= MAX_DELIVERIES
        executions = call.attempt - 1 + (1 if crashes == OVERDUE else crashes)
        return Refused(refused, executions, status if is_parked else "")


def refusal(
    call: Call, task: Task, crashes: int, revoked: InterruptReason | None, *, exit_status: str = ""
) -> Result | None:
    """Result of a call that must not run; None if it may run.

    Args:
        crashes: how often a process of this worker has died while it ran the call.
        revoked: why the call was canceled; None if it was not.
        exit_status: how the last of these processes ended, as `exit_status_of` returns it.
    """
    if revoked is not None:
        canceled = Failure(type_name="Canceled", message=f"task {call.task!r}: its call {call.id} was canceled")
        return failed_with(Outcome.CANCELED, canceled)
    if crashes == OVERDUE:
        message = f"task {call.task!r} could not be interrupted; its worker process was killed"
        return timed_out(message)
    if deadline.is_past(call.deadline, call.sender_time(time.time())):
        return deadline_passed(call)
    if crashes >= MAX_DELIVERIES:
        last = f"; the last {describe_exit(exit_status)} on {socket.gethostname()}" if exit_status else ""
        return worker_lost(f"task {call.task!r}: {crashes} worker processes died while they ran the call{last}")
    if crashes and task.runs_once(call):
        kind = (
            "a long task" if task.long else "a call that is not persistent" if not call.persistent else _UNBOUNDED_JOB
        )
        how = describe_exit(exit_status) if exit_status else "died"
        return worker_lost(f"task {call.task!r}: its worker process {how}; {kind} is not retried")
    return None


def waited_too_long(call: Call) -> bool:
    """Whether a job was not started by its `start_by`; a job that was started before is run again at any time.

    Only asked for a first attempt that is not redelivered. A redelivered job may have been started: its host died, or
    its connection broke and it still runs there. If it was not, its gateway has expired it by now, and this worker
    knows it as revoked.
    """
    return call.start_by is not None and deadline.is_past(call.start_by, call.sender_time(time.time()))

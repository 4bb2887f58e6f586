"""Admission: decides whether a delivered call may run; if not, sends the reply that it gets instead."""

import asyncio
import functools
import socket
import time
from collections.abc import Callable
from typing import Final

from crew.amqp import Delivery
from crew.protocol import deadline
from crew.protocol.failure import Failure
from crew.protocol.message import Call, Outcome
from crew.worker.consumer.flow_control import FlowControl
from crew.worker.consumer.revoked_calls import RevokedCalls
from crew.worker.consumer.settlement import Settlement
from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result, deadline_passed, expired, failed_with, timed_out, worker_lost
from crew.worker.job_reports.revocation_sync import RevocationSync
from crew.worker.shared_state.exit_status import describe_exit
from crew.worker.shared_state.shared_state import OVERDUE, SharedState
from crew.worker.task import MAX_TIMEOUT, Task

CRASH_COUNT_DELAY: Final = 0.2  # seconds for the supervisor to notice that a process has died, on a busy machine
MAX_DELIVERIES: Final = 3  # processes of one worker that a call may crash; each supervisor counts for itself


_Run = Callable[[Delivery, Call, Task, int], object]
_Step = Callable[[Delivery, Call, Task, _Run], None]
_UNBOUNDED_JOB: Final = f"a job without a timeout of {MAX_TIMEOUT:.0f} s or less"


class Admission:
    """Starts or refuses delivered calls. All methods run on the I/O thread.

    Args:
        revoked: calls that were canceled before their start.
        flow: whether deliveries are accepted now.
        revocation_sync: holds jobs until their store has reported its revoked jobs.
    """

    def __init__(
        self,
        shared_state: SharedState,
        revoked: RevokedCalls,
        settlement: Settlement,
        flow: FlowControl,
        revocation_sync: RevocationSync,
    ) -> None:
        self._shared_state = shared_state
        self._revoked = revoked
        self._settlement = settlement
        self._flow = flow
        self._revocation_sync = revocation_sync

    def admit(self, delivery: Delivery, call: Call, task: Task, run: _Run) -> None:
        """Call `run` with these arguments and the number of crashes of `call`, or refuse the call.

        The broker redelivers a call within a millisecond after its process died. The supervisor may not have counted
        that crash yet, so a redelivered call that still seems to run waits for CRASH_COUNT_DELAY.
        """
        if call.is_job and call.reply_to is not None and self._revocation_sync.is_awaiting(call.reply_to):
            self._revocation_sync.hold(call.reply_to, self.resume, self.admit, delivery, call, task, run)
        elif delivery.redelivered and self._shared_state.is_running(call.key):
            resume = functools.partial(self.resume, self._decide, delivery, call, task, run)
            asyncio.get_running_loop().call_later(CRASH_COUNT_DELAY, resume)
        else:
            self._decide(delivery, call, task, run)

    def resume(self, step: _Step, delivery: Delivery, call: Call, task: Task, run: _Run) -> None:
        """Continue with `step` for a delivery that has waited; requeue it if no deliveries are accepted any more."""
        if self._flow.is_open:
            if delivery.is_ours:  # else it was lost with its connection
                step(delivery, call, task, run)
        else:
            self._settlement.requeue(delivery)

    def _decide(self, delivery: Delivery, call: Call, task: Task, run: _Run) -> None:
        crashes = self._shared_state.crashes(call.key) if delivery.redelivered or call.attempt > 1 else 0
        status = self._shared_state.exit_status(call.key) if crashes else ""
        revoked = self._revoked.get(call.id, call.deadline, is_job=call.is_job)
        refused = refusal(call, task, crashes, revoked, exit_status=status)
        if refused is None and not crashes and waited_too_long(call, redelivered=delivery.redelivered):
            refused = expired(call)
        if refused is None:
            run(delivery, call, task, crashes)
        else:
            is_parked = refused.outcome is Outcome.WORKER_LOST and crashes >= MAX_DELIVERIES
            executions = call.attempt - 1 + (1 if crashes == OVERDUE else crashes)
            self._settlement.refuse(
                delivery, call, refused, executions=executions, exit_status=status if is_parked else ""
            )


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


def waited_too_long(call: Call, *, redelivered: bool) -> bool:
    """Whether a job was not started by its `start_by`; a job that was started before is run again at any time.

    A redelivered job may have been started: its host died, or its connection broke and it still runs there. If it was
    not, its gateway has expired it by now, and this worker knows it as revoked.
    """
    return call.attempt == 1 and not redelivered and deadline.is_past(call.start_by, call.sender_time(time.time()))

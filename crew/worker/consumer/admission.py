"""Which calls are not run, and what they come to instead."""

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

COUNTED_WITHIN: Final = 0.2  # seconds for the supervisor to see that a process has died, on a busy machine
MAX_DELIVERIES: Final = 3  # processes of one worker that a call may take down; each supervisor counts for itself


_Run = Callable[[Delivery, Call, Task, int], object]
_Step = Callable[[Delivery, Call, Task, _Run], None]
_MAY_OVERSTAY: Final = f", a job without a timeout of {MAX_TIMEOUT:.0f} s or less,"


class Admission:
    """Answers deliveries that are not to be run. All of it on the I/O thread.

    Args:
        canceled: the calls that nobody wants the answers of.
        windows: count what is held.
        briefings: jobs wait for them.
    """

    def __init__(
        self,
        shared_state: SharedState,
        revoked: RevokedCalls,
        answers: Settlement,
        windows: FlowControl,
        revocation_sync: RevocationSync,
    ) -> None:
        self._shared_state = shared_state
        self._revoked = revoked
        self._answers = answers
        self._flow = windows
        self._revocation_sync = revocation_sync

    def ask(self, delivery: Delivery, call: Call, task: Task, run: _Run) -> None:
        """Have `run` called with all of them and the crashes of `call`, or answer it.

        The broker delivers a call again within a millisecond of the death of its process: it may be here before that
        was counted, and would then not be known as what took the process down.
        """
        if call.is_job and call.reply_to is not None and self._revocation_sync.awaits(call.reply_to):
            self._revocation_sync.hold(call.reply_to, self.late, self.ask, delivery, call, task, run)
        elif delivery.redelivered and self._shared_state.is_running(call.key):
            late = functools.partial(self.late, self._decide, delivery, call, task, run)
            asyncio.get_running_loop().call_later(COUNTED_WITHIN, late)
        else:
            self._decide(delivery, call, task, run)

    def late(self, step: _Step, delivery: Delivery, call: Call, task: Task, run: _Run) -> None:
        """Do `step` with a delivery that has waited; it goes back to its queue where nothing is taken any longer."""
        if self._flow.takes:
            if delivery.is_ours:  # else it was lost meanwhile
                step(delivery, call, task, run)
        else:
            self._answers.requeue(delivery)

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
            is_given_up = refused.outcome is Outcome.WORKER_LOST and crashes >= MAX_DELIVERIES
            executions = call.attempt - 1 + (1 if crashes == OVERDUE else crashes)
            self._answers.refuse(
                delivery, call, refused, executions=executions, exit_status=status if is_given_up else ""
            )


def refusal(
    call: Call, task: Task, crashes: int, revoked: InterruptReason | None, *, exit_status: str = ""
) -> Result | None:
    """Why `call` must not be run, or None.

    Args:
        crashes: how often a process of this worker has died while it ran the call.
        canceled: why nobody wants its answer any longer, where that is so.
        exit_status: how the last of these processes ended, as `exit_status_of` returns it.
    """
    if revoked is not None:
        told = Failure(type_name="Canceled", message=f"call {call.id} of task {call.task!r} was cancelled")
        return failed_with(Outcome.CANCELED, told)
    if crashes == OVERDUE:
        message = f"task {call.task!r} could not be interrupted, and its worker process was killed"
        return timed_out(message)
    if deadline.is_past(call.deadline, call.sender_time(time.time())):
        return deadline_passed(call)
    if crashes >= MAX_DELIVERIES:
        last = f"; the last {describe_exit(exit_status)} on {socket.gethostname()}" if exit_status else ""
        return worker_lost(f"{crashes} worker processes died while they ran {call.task!r}{last}")
    if crashes and task.runs_once(call):
        kind = ", a long task," if task.long else " that is not persistent" if not call.persistent else _MAY_OVERSTAY
        how = describe_exit(exit_status) if exit_status else "died"
        return worker_lost(f"its worker process {how}, and a call of {call.task!r}{kind} is not run twice")
    return None


def waited_too_long(call: Call, *, redelivered: bool) -> bool:
    """Whether it is a job that nobody has started in time; one that was started is run again at any time.

    One that is delivered again may have been: its host has died, or its connection broke and it runs there yet. Where
    it has only waited, its gateway has ended it by now, and told us.
    """
    return call.attempt == 1 and not redelivered and deadline.is_past(call.start_by, call.sender_time(time.time()))

"""Settlement of deliveries: reply and acknowledge after the confirm, retry, requeue or park."""

import functools

from crew.amqp import Delivery
from crew.protocol import topology
from crew.protocol.failure import describe
from crew.protocol.message import Call, Outcome
from crew.protocol.properties import MalformedMessage
from crew.worker.execution.execution import Execution, refused_run
from crew.worker.execution.held import Held
from crew.worker.execution.result import NO_BODY, Result, failed_with
from crew.worker.execution.state import (
    ACKNOWLEDGE,
    ACKNOWLEDGE_AT_START,
    ANNOUNCE,
    CONFIRM,
    DISCARD,
    HELD,
    LOSE,
    REDELIVER,
    REQUEUE,
    SETTLE,
)
from crew.worker.job_reports.jobs import JobReports
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher


class Settlement:
    """Settles executions and refused deliveries. All methods run on the I/O thread.

    Args:
        held: the deliveries and executions.
    """

    def __init__(
        self,
        replies: ReplyPublisher,
        retries: RetryPublisher,
        job_reports: JobReports,
        held: Held,
    ) -> None:
        self._replies = replies
        self._retries = retries
        self._held = held
        self._job_reports = job_reports

    def settle(self, execution: Execution, result: Result) -> None:
        """Send the reply of `execution`, or retry or requeue its call."""
        if execution.call.is_job:
            self._job_reports.on_end(execution)
        if execution.interruption.hung_at and result.outcome is Outcome.TIMED_OUT:
            result = result.with_traceback(execution.interruption.where() or execution.interruption.hung_at)
        execution.state.move(SETTLE)
        if result.outcome is None:
            self._discard(execution)
            return
        on_sent = functools.partial(self._confirm, execution)
        # A retry would run at the same time as an interrupted task that cleans up.
        if result.retry_after is None or (execution.is_interrupted and not execution.has_ended):
            on_dropped = functools.partial(self._discard, execution)
            run = execution.ended_run() if execution.call.is_job else None
            self._replies.reply(execution.call, result, on_sent, on_dropped, run=run)
        else:
            self._retries.send(execution, result, on_sent)

    def _confirm(self, execution: Execution) -> None:
        """Acknowledge its delivery, if it is held still: the broker has its reply or retry."""
        state = execution.state
        state.move(CONFIRM)
        if state.delivery is HELD:
            state.move(ACKNOWLEDGE if self._held.acknowledge(execution.delivery) else LOSE)

    def _discard(self, execution: Execution) -> None:
        """Requeue its delivery: there is no reply, or a full backlog has discarded it."""
        execution.state.move(DISCARD)
        self.give_back(execution)

    def give_back(self, execution: Execution) -> None:
        """Return its delivery to its queue, if it is held still."""
        if execution.state.delivery is HELD:
            execution.state.move(REQUEUE if self._held.requeue(execution.delivery) else LOSE)

    def send_last_progress(self, execution: Execution) -> None:
        """Send the progress that its task has reported while it cleaned up, after its reply was sent."""
        if execution.call.is_job:
            self._job_reports.on_end(execution)

    def announce(self, execution: Execution) -> None:
        """Report its start to the caller, once."""
        if not execution.state.allows(ANNOUNCE):
            return
        is_job = execution.call.is_job
        if self._job_reports.announce(execution) if is_job else self._replies.announce(execution.call):
            execution.state.move(ANNOUNCE)

    def refuse(self, delivery: Delivery, call: Call, result: Result, *, executions: int, exit_status: str) -> None:
        """Reply to a call that does not run; with an `exit_status`, park its message before that.

        Args:
            executions: how often it was started.
            exit_status: how the last process that ran it ended; "" if the message is not parked.
        """
        on_sent = functools.partial(self._held.acknowledge, delivery)
        on_dropped = functools.partial(self._held.requeue, delivery)
        run = refused_run(call, executions)
        reply = functools.partial(self._replies.reply, call, result, on_sent, on_dropped, run=run)
        if exit_status:
            self._replies.park(delivery, result.message, reply, on_dropped, exit_status=exit_status)
        else:
            reply()

    def refuse_malformed(self, delivery: Delivery, task: str, error: MalformedMessage) -> None:
        """Park a message that cannot be parsed, then reply to it if it names a reply queue and an id."""

        def on_parked() -> None:
            delivery.ack()
            self._reply_malformed(delivery, task, error)

        self._replies.park(delivery, str(error), on_parked, delivery.requeue)

    def park_refused(self, delivery: Delivery) -> None:
        """Park a message without a valid signature; no reply is sent. Its sender may only lack the key."""
        why = f"{delivery.refusal}: it was not run, as CREW_SIGNING_KEY is set on this worker"
        self._replies.park(delivery, why, delivery.ack, delivery.requeue)

    def _reply_malformed(self, delivery: Delivery, task: str, error: MalformedMessage) -> None:
        reply_to, id = delivery.properties.reply_to, delivery.properties.correlation_id
        if isinstance(reply_to, str) and reply_to and isinstance(id, str) and id:
            call = Call(id=id, task=task, body=NO_BODY, reply_to=reply_to, is_job=topology.is_jobs_queue(reply_to))
            result = failed_with(Outcome.RAISED, describe(error))
            self._replies.reply(call, result, lambda: None, run=refused_run(call, executions=0))

    # --- deliveries -------------------------------------------------------------------------------------------------

    def acknowledge_at_start(self, execution: Execution) -> bool:
        """Acknowledge its delivery before it ends; False if the channel is gone and the broker will redeliver it."""
        if execution.state.delivery is HELD:
            execution.state.move(ACKNOWLEDGE_AT_START if self._held.acknowledge(execution.delivery) else LOSE)
        return execution.is_acknowledged

    def adopt(self, execution: Execution, delivery: Delivery) -> None:
        """Give `execution`, whose own delivery is lost, the new delivery of its call."""
        was_acknowledged = execution.is_acknowledged  # on the lost channel: the broker did not get it
        self.lose(execution)
        execution.delivery = delivery
        execution.state.move(REDELIVER)
        if was_acknowledged or (execution.runs_once and execution.has_begun):
            self.acknowledge_at_start(execution)

    def lose(self, execution: Execution) -> None:
        """Record that its delivery is lost with its channel, if it was not acknowledged before."""
        if execution.state.delivery is HELD:
            execution.state.move(LOSE)

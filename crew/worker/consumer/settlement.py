"""How a delivery ends: its reply is sent and confirmed, and then it is acknowledged; or it goes back to its queue."""

import functools
from collections.abc import Callable

from crew.amqp import Delivery
from crew.protocol import topology
from crew.protocol.failure import describe
from crew.protocol.message import Call, Outcome
from crew.protocol.properties import MalformedMessage
from crew.worker.consumer.flow_control import FlowControl
from crew.worker.execution.execution import Execution, refused_run
from crew.worker.execution.result import NO_BODY, Result, failed_with
from crew.worker.job_reports.jobs import JobReports
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.replies.retry_publisher import RetryPublisher


class Settlement:
    """What executions came to, on its way back. All of it on the I/O thread.

    Args:
        where: tells where an execution is, as the text of a traceback; None where callers are not told of it.
    """

    def __init__(
        self,
        replies: ReplyPublisher,
        retries: RetryPublisher,
        jobs: JobReports,
        windows: FlowControl,
        *,
        where: Callable[[Execution], str] | None,
    ) -> None:
        self._replies = replies
        self._retries = retries
        self._flow = windows
        self._jobs = jobs
        self._where = where

    def give(self, execution: Execution, ended: Result) -> None:
        """Answer the call of `execution`, or have it run again."""
        if execution.call.is_job:
            self._jobs.on_end(execution)
        if self._where is not None and ended.outcome is Outcome.TIMED_OUT:
            ended = ended.with_traceback(execution.where_stopped() or self._where(execution))
        if ended.outcome is None:
            self.requeue(execution.delivery)
            return
        on_sent = (lambda: None) if execution.is_acked else functools.partial(self.release, execution.delivery)
        goes_on = execution.is_interrupted and not execution.has_ended  # it would run twice at a time
        if ended.retry_after is None or goes_on:
            on_dropped = (lambda: None) if execution.is_acked else functools.partial(self.requeue, execution.delivery)
            execution.is_acked = True  # or will be: it may be told only now that it has started
            self._replies.answer(execution.call, ended, on_sent, on_dropped, run=execution.ended_run())
        else:
            self._retries.send(execution, ended, on_sent)

    def send_last_progress(self, execution: Execution) -> None:
        """Nothing of it runs any longer. Its end may have been said before its clean-up, of which its task has told."""
        if execution.call.is_job:
            self._jobs.on_end(execution)

    def announce(self, execution: Execution) -> None:
        """Tell its caller that it has started, once."""
        if execution.is_announced:
            return
        if execution.call.is_job:
            execution.is_announced = self._jobs.announce(execution)
        else:
            execution.is_announced = self._replies.announce(execution.call)

    def refuse(self, delivery: Delivery, call: Call, ended: Result, *, executions: int, exit_status: str) -> None:
        """Answer a call that is not run. With the `exit_status` of its last process it is parked, before all else.

        Args:
            executions: of it that were begun.
        """
        done, back = functools.partial(self.release, delivery), functools.partial(self.requeue, delivery)
        run = refused_run(call, executions)
        answer = functools.partial(self._replies.answer, call, ended, done, back, run=run)
        if exit_status:
            self._replies.park(delivery, ended.message, answer, back, exit_status=exit_status)
        else:
            answer()

    def refuse_malformed(self, delivery: Delivery, task: str, error: MalformedMessage) -> None:
        """Nobody can be answered with certainty, so it is kept for who looks after the broker, before all else."""

        def on_parked() -> None:
            delivery.ack()
            self._answer_malformed(delivery, task, error)  # now: what is on its way is told apart by its id alone

        self._replies.park(delivery, str(error), on_parked, delivery.requeue)

    def park_refused(self, delivery: Delivery) -> None:
        """Park a message that is not signed: its sender may only lack the key. `reply_to` gets no answer."""
        why = f"{delivery.refusal}: it was not run, as CREW_SIGNING_KEY is set on this worker"
        self._replies.park(delivery, why, delivery.ack, delivery.requeue)

    def _answer_malformed(self, delivery: Delivery, task: str, error: MalformedMessage) -> None:
        reply_to, id = delivery.properties.reply_to, delivery.properties.correlation_id
        if isinstance(reply_to, str) and reply_to and isinstance(id, str) and id:
            call = Call(id=id, task=task, body=NO_BODY, reply_to=reply_to, is_job=topology.is_jobs_queue(reply_to))
            ended = failed_with(Outcome.RAISED, describe(error))
            self._replies.answer(call, ended, lambda: None, run=refused_run(call, executions=0))

    # --- deliveries -------------------------------------------------------------------------------------------------

    def end_delivery(self, execution: Execution) -> bool:
        """Acknowledge it before its end; False where its channel is gone, and the broker will deliver it again."""
        execution.is_acked = True
        return self.release(execution.delivery)

    def release(self, delivery: Delivery) -> bool:
        """It is done with; where its channel is gone, it was taken off the count with it."""
        is_acked = delivery.ack()
        if is_acked:
            self._flow.drop(delivery.queue)
        return is_acked

    def requeue(self, delivery: Delivery) -> None:
        """It goes back to its queue."""
        if delivery.requeue():
            self._flow.drop(delivery.queue)

"""Retry publisher: publishes a call again, through a delay queue that returns it to the queue of its task.

While the call is delayed, no delivery is unacknowledged and no worker has to be alive: the call is published as a new
message, and its delivery is acknowledged when the broker has confirmed that. It must be a new message, because the
broker drops a message that only its own dead-lettering has moved in a cycle.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from crew.amqp import Delivery, Link
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.policy import RETRIES, OutboxPolicy
from crew.clock import monotonic_time
from crew.errors import CrewError, MessageRefused
from crew.protocol import failure, user_headers
from crew.protocol.message import Call, Outcome
from crew.worker.execution.execution import Execution, refused_run
from crew.worker.execution.result import Result, failed_with
from crew.worker.replies.delay_queues import DelayQueues
from crew.worker.replies.outgoing_retry import NOT_IN_TIME, OutgoingRetry
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.task import Task

logger = logging.getLogger(__name__)

OnSent = Callable[[], object]


class RetryPublisher:
    """Publishes the calls that are to run again. All methods run on the I/O thread.

    Args:
        replies: publishes the failure of a call that cannot be retried.
        policy: how a call is published again.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        link: Link,
        replies: ReplyPublisher,
        *,
        policy: OutboxPolicy = RETRIES,
        clock: Callable[[], float] = monotonic_time,
    ) -> None:
        self._link = link
        self._replies = replies
        self._queues = DelayQueues(link, clock=clock)
        self._outbox = Outbox(link, policy)

    def __len__(self) -> int:
        return len(self._outbox) + self._outbox.returned

    def __repr__(self) -> str:
        return f"<RetryPublisher: {len(self)} not confirmed>"

    def send(self, execution: Execution, result: Result, on_sent: OnSent) -> None:
        """Retry the call of `execution`, `result.retry_after` seconds after the broker has confirmed it.

        While the broker is away the call waits here. If its delivery is lost, the call is dropped, as the broker
        redelivers it. If its deadline is too near, or the broker does not accept it, `result` is sent as its reply:
        without either its caller would wait until the deadline.

        Args:
            on_sent: called when the broker has the call, or its reply.
        """
        call = execution.call
        again = _sendable(call)
        if result.outcome is not Outcome.WORKER_LOST:  # else that attempt has not failed
            again = msgspec.structs.replace(again, attempt=call.attempt + 1)

        def on_refused(error: Exception | None) -> None:
            _log_failure("retried", call, error, level=logging.WARNING)
            self._replies.reply(call, result, on_sent, run=execution.ended_run())

        self._publish(
            again,
            delay=result.retry_after or 0.0,
            way_back=execution.task.return_queue,
            wanted=lambda: execution.is_acknowledged or execution.delivery.is_ours,
            until=call.deadline,
            on_sent=lambda: self._on_confirmed(execution, on_sent),
            on_refused=on_refused,
        )

    def postpone(
        self, delivery: Delivery, call: Call, task: Task, *, delay: float, on_sent: OnSent, on_failed: OnSent
    ) -> None:
        """Have `call`, which was not started, delivered again after `delay` seconds, as the same attempt.

        While the broker is away the call waits here. If its delivery is lost, the call is dropped, as the broker
        redelivers it. If the broker does not accept it, a failure is sent as its reply. The delivery of a call that is
        not persistent must be acknowledged before; a failure is sent as its reply also if its confirm is lost or late.

        Args:
            on_sent: called when the broker has the call, or its reply.
            on_failed: called if the broker did not confirm a persistent call in time.
        """
        again = _sendable(call)
        if not delivery.redelivered:  # it was not started before
            again = msgspec.structs.replace(again, start_by=call.start_by)

        def on_refused(error: Exception | None) -> None:
            if error is None and call.persistent:
                on_failed()
                return
            _log_failure("postponed", call, error, level=logging.ERROR)
            reason = error if isinstance(error, MessageRefused) else NOT_IN_TIME
            reported = failure.describe(MessageRefused(f"task {call.task!r} was not started: {reason}"))
            self._replies.reply(call, failed_with(Outcome.RAISED, reported), on_sent, run=refused_run(call, 0))

        self._publish(
            again,
            delay=delay,
            way_back=task.return_queue,
            wanted=lambda: not call.persistent or delivery.is_ours,
            on_sent=on_sent,
            on_refused=on_refused,
        )

    def stop(self) -> None:
        """Forget all retries that are not confirmed; idempotent."""
        self._outbox.close()

    def _publish(self, call: Call, **options: Any) -> None:
        message = OutgoingRetry(id=call.id, link=self._link, queues=self._queues, call=call, **options)
        if message.delay_ms:
            message.prepare = functools.partial(self._queues.declare, message.delay_ms)
        if message.is_wanted():
            self._outbox.send(message)

    def _on_confirmed(self, execution: Execution, on_sent: OnSent) -> None:
        on_sent()
        if execution.call.is_job:  # it may wait for longer than a gateway waits for the heartbeat of a job
            self._replies.announce(execution.call, execution.ended_run())
        elif execution.call.attempt == 1 and not execution.is_announced:
            # So that the client can tell a timeout from an expiration.
            self._replies.announce(execution.call)


def _log_failure(what: str, call: Call, error: Exception | None, *, level: int) -> None:
    """Log that a call was not `what`; an error that is not of the broker with its stack."""
    if error is None or isinstance(error, CrewError):
        level = logging.ERROR if error else level
        logger.log(level, "call not %s: %s call_id=%s task=%s", what, error or NOT_IN_TIME, call.id, call.task)
    else:
        logger.error("call not %s call_id=%s task=%s", what, call.id, call.task, exc_info=error)


def _sendable(call: Call) -> Call:
    """Copy `call` without headers that would break the connection and without `start_by`, as it started in time."""
    return msgspec.structs.replace(call, headers=user_headers.sendable(call.headers), start_by=None)

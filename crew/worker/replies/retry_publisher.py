"""Retry publisher: publishes a call again, through a delay queue that returns it to the queue of its task.

While the call is delayed, no delivery is unacknowledged and no worker has to be alive: the call is published as a new
message, and its delivery is acknowledged when the broker has confirmed that. It must be a new message, because the
broker drops a message that only its own dead-lettering has moved in a cycle.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from crew.amqp import ConfirmStatus, Delivery, Link
from crew.errors import ConnectionError, MessageRefused
from crew.protocol import deadline, failure, properties, topology, user_headers
from crew.protocol.message import Call, Outcome
from crew.worker.execution.execution import Execution, refused_run
from crew.worker.execution.result import Result, failed_with
from crew.worker.replies.reply_publisher import ReplyPublisher
from crew.worker.task import Task

logger = logging.getLogger(__name__)

DECLARE_INTERVAL: Final = 60.0  # seconds: the broker deletes a delay queue that was not declared for 10 minutes
# Attempts to publish a call; after that its caller gets the failure. A quorum queue refuses messages until it has
# elected its leader, for up to three seconds on a busy machine.
MAX_PUBLISHES: Final = 50
PUBLISH_RETRY_DELAY: Final = 0.1  # seconds between two attempts; a link may not have noticed yet that it is lost

OnSent = Callable[[], object]


class RetryPublisher:
    """Publishes the calls that are to run again. All methods run on the I/O thread.

    Args:
        replies: publishes the failure of a call that cannot be retried.
    """

    def __init__(self, link: Link, replies: ReplyPublisher) -> None:
        self._link = link
        self._replies = replies
        self._declared: dict[int, float] = {}  # delay in milliseconds -> time.monotonic() of the declaration
        self._declaring = asyncio.Lock()  # each declaration opens a channel, and a connection has few
        self._sending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sending)

    def __repr__(self) -> str:
        return f"<RetryPublisher: {len(self)} not confirmed>"

    def send(self, execution: Execution, result: Result, on_sent: OnSent) -> None:
        """Retry the call of `execution`, `result.retry_after` seconds after the broker has confirmed it.

        While the broker is away the call waits here. If its delivery is lost, the call is dropped, as the broker
        redelivers it. If its deadline is too near, or the broker does not accept it, `result` is sent as its reply.

        Args:
            on_sent: called when the broker has the call, or its reply.
        """
        self._begin(self._send(execution, result, on_sent))

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
        self._begin(self._postpone(delivery, call, task, delay, on_sent, on_failed))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        sending = asyncio.get_running_loop().create_task(coroutine)
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def stop(self) -> None:
        """Cancel all retries that are not confirmed; idempotent."""
        for sending in self._sending:
            sending.cancel()

    async def _send(self, execution: Execution, result: Result, on_sent: OnSent) -> None:
        """Send the call, or its failure: without either its caller would wait until the deadline."""
        call = execution.call
        try:
            if await self._is_sent(execution, result, on_sent):
                return
            reason = "the broker did not accept the call in time"
            logger.warning("call not retried: %s call_id=%s task=%s", reason, call.id, call.task)
        except MessageRefused as error:
            logger.error("call not retried: %s call_id=%s task=%s", error, call.id, call.task)
        except Exception:
            logger.exception("call not retried call_id=%s task=%s", call.id, call.task)
        self._replies.reply(call, result, on_sent, run=execution.ended_run())

    async def _is_sent(self, execution: Execution, result: Result, on_sent: OnSent) -> bool:
        """Whether the broker has the call, or will redeliver it by itself; raises MessageRefused."""
        call = _sendable(execution.call)
        delay = result.retry_after or 0.0
        again = call if result.outcome is Outcome.WORKER_LOST else _next_attempt(call)  # that attempt has not failed
        for _ in range(MAX_PUBLISHES):
            with contextlib.suppress(ConnectionError):  # the link was closed: the process ends
                await self._link.ready()
            if not (execution.is_acknowledged or execution.delivery.is_ours):
                return True
            if deadline.is_past(call.deadline, call.sender_time(time.time()) + delay):
                break
            status = await self._publish(again, round(delay * 1000), execution.task.return_queue)
            if status is ConfirmStatus.CONFIRMED:
                self._on_confirmed(execution, on_sent)
                return True
            if status is ConfirmStatus.TOO_LARGE or (status is ConfirmStatus.LOST and not call.persistent):
                break  # it will never accept it; or it may have it already, and the call would run twice
            await asyncio.sleep(PUBLISH_RETRY_DELAY)
        return False

    async def _postpone(
        self, delivery: Delivery, call: Call, task: Task, delay: float, on_sent: OnSent, on_failed: OnSent
    ) -> None:
        again = _sendable(call)
        if not delivery.redelivered:  # it was not started before
            again = msgspec.structs.replace(again, start_by=call.start_by)
        reason = "the broker did not accept the call in time"
        try:
            for _ in range(MAX_PUBLISHES):
                with contextlib.suppress(ConnectionError):
                    await self._link.ready()
                if call.persistent and not delivery.is_ours:
                    return
                status = await self._publish(again, round(delay * 1000), task.return_queue)
                if status is ConfirmStatus.CONFIRMED:
                    on_sent()
                    return
                if status is ConfirmStatus.TOO_LARGE:
                    raise MessageRefused("it is larger than the broker accepts")
                if status is ConfirmStatus.LOST and not call.persistent:
                    break  # the broker may have it already, and the call would run twice
                await asyncio.sleep(PUBLISH_RETRY_DELAY)
            if call.persistent:
                on_failed()
                return
        except MessageRefused as error:
            reason = str(error)
        except Exception:
            logger.exception("call not postponed call_id=%s task=%s", call.id, call.task)
        logger.error("call not postponed: %s call_id=%s task=%s", reason, call.id, call.task)
        reported = failure.describe(MessageRefused(f"task {call.task!r} was not started: {reason}"))
        self._replies.reply(call, failed_with(Outcome.RAISED, reported), on_sent, run=refused_run(call, 0))

    def _on_confirmed(self, execution: Execution, on_sent: OnSent) -> None:
        on_sent()
        if execution.call.is_job:  # it may wait for longer than a gateway waits for the heartbeat of a job
            self._replies.announce(execution.call, execution.ended_run())
        elif execution.call.attempt == 1 and not execution.is_announced:
            # So that the client can tell a timeout from an expiration.
            self._replies.announce(execution.call)

    async def _publish(self, call: Call, delay_ms: int, way_back: str) -> ConfirmStatus | None:
        """Publish `call` to the queue `way_back` and wait for its confirm; None while the broker is away.

        Raises:
            MessageRefused: the broker does not accept it.
        """
        try:
            if delay_ms:
                await self._declare(delay_ms)
            now = call.sender_time(time.time())
            confirm = self._link.publish(
                topology.RETRY if delay_ms else topology.DEFAULT_EXCHANGE,
                way_back,
                properties.of_retry(call, delay_ms, now=now) if delay_ms else properties.of_call(call, now=now),
                call.body.data,
                mandatory=True,
            )
            status = await confirm
        except ConnectionError as error:
            logger.info("retry waits for the broker: %s call_id=%s task=%s", error, call.id, call.task)
            return None
        if status is ConfirmStatus.INVALID:
            raise MessageRefused(f"the broker does not accept it: {confirm.reason}")
        if status is ConfirmStatus.REFUSED:
            self._link.change_channel()
        if status is ConfirmStatus.RETURNED:
            self._declared.pop(delay_ms, None)  # the queue was deleted
        return status

    async def _declare(self, delay_ms: int) -> None:
        async with self._declaring:
            now = time.monotonic()
            if now - self._declared.get(delay_ms, -DECLARE_INTERVAL) >= DECLARE_INTERVAL:
                await self._link.declare_once(*topology.delay_queue(delay_ms))
                self._declared[delay_ms] = now


def _sendable(call: Call) -> Call:
    """Copy `call` without headers that would break the connection and without `start_by`, as it started in time."""
    return msgspec.structs.replace(call, headers=user_headers.sendable(call.headers), start_by=None)


def _next_attempt(call: Call) -> Call:
    """Copy `call` as its next attempt."""
    return msgspec.structs.replace(call, attempt=call.attempt + 1)

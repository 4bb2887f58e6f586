"""Calls on their way to another execution: through a queue that delays them, back into the queue of their task.

Nothing is held unacknowledged meanwhile, and no worker need live: the call is published anew, and its delivery is
acknowledged when the broker has it. Published anew, because the broker drops a message that only its own dead-lettering
has moved in a circle.
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

DECLARED_FOR: Final = 60.0  # seconds: a queue in which calls wait goes when nobody has declared it for 10 minutes
# Of a call that the broker does not take; then its caller is told of its failure. A quorum queue takes nothing until it
# has elected its leader, for up to three seconds on a busy machine.
PUBLISHES: Final = 50
AGAIN_AFTER: Final = 0.1  # seconds until the next of them, for a link that has not heard yet that it is lost

OnSent = Callable[[], object]


class RetryPublisher:
    """Sends what is to be run again. All of it on the I/O thread.

    Args:
        replies: take the failure of a call that cannot be run again after all.
    """

    def __init__(self, link: Link, replies: ReplyPublisher) -> None:
        self._link = link
        self._replies = replies
        self._declared: dict[int, float] = {}  # delay in milliseconds -> time.monotonic() of the declaration
        self._declaring = asyncio.Lock()  # each declaration has a channel of its own, and a connection only so many
        self._sending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sending)

    def __repr__(self) -> str:
        return f"<RetryPublisher: {len(self)} on their way>"

    def send(self, execution: Execution, ended: Result, on_sent: OnSent) -> None:
        """Have the call of `execution` run again, `ended.retry_after` seconds after the broker has taken it.

        While the broker is away the call waits here. It is dropped where its delivery was lost meanwhile, as the broker
        delivers that again, and answered with `ended` where there is no time left, or the broker does not take it.

        Args:
            on_sent: called when the broker has the call, or its answer.
        """
        self._begin(self._send(execution, ended, on_sent))

    def postpone(
        self, delivery: Delivery, call: Call, task: Task, *, delay: float, on_sent: OnSent, on_failed: OnSent
    ) -> None:
        """Have `call`, which was not started, delivered again after `delay` seconds, as the same attempt.

        While the broker is away the call waits here. It is dropped where its delivery was lost meanwhile, as the broker
        delivers that again. It is answered with a failure where the broker refuses it for good. The delivery of a call
        that is not persistent must be acknowledged before; it is answered with a failure, too, where its confirm is
        lost or does not come in time.

        Args:
            on_sent: called when the broker has the call, or its answer.
            on_failed: called where the broker did not take a persistent call in time.
        """
        self._begin(self._postpone(delivery, call, task, delay, on_sent, on_failed))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        sending = asyncio.get_running_loop().create_task(coroutine)
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def stop(self) -> None:
        """Send nothing more; idempotent."""
        for sending in self._sending:
            sending.cancel()

    async def _send(self, execution: Execution, ended: Result, on_sent: OnSent) -> None:
        """Send it, or else its failure: a call that is in nobody's hands would have no end."""
        call = execution.call
        try:
            if await self._is_sent(execution, ended, on_sent):
                return
            logger.warning("call %s of %s is not run again: the broker did not take it in time", call.id, call.task)
        except MessageRefused as error:
            logger.error("call %s of %s is not run again: %s", call.id, call.task, error)
        except Exception:
            logger.exception("call %s of %s is not run again", call.id, call.task)
        self._replies.answer(call, ended, on_sent, run=execution.ended_run())

    async def _is_sent(self, execution: Execution, ended: Result, on_sent: OnSent) -> bool:
        """Whether the broker has it, or will deliver it again by itself; raises MessageRefused."""
        call = _sendable(execution.call)
        delay = ended.retry_after or 0.0
        again = call if ended.outcome is Outcome.WORKER_LOST else _next_attempt(call)  # that one has not failed
        for _ in range(PUBLISHES):
            with contextlib.suppress(ConnectionError):  # it was closed: nothing waits for it then
                await self._link.ready()
            if not (execution.is_acked or execution.delivery.is_ours):
                return True
            if deadline.is_past(call.deadline, call.sender_time(time.time()) + delay):
                break
            status = await self._publish(again, round(delay * 1000), execution.task.way_back)
            if status is ConfirmStatus.CONFIRMED:
                self._on_confirmed(execution, on_sent)
                return True
            if status is ConfirmStatus.TOO_LARGE or (status is ConfirmStatus.LOST and not call.persistent):
                break  # it never takes it; or may have it, and would run it twice
            await asyncio.sleep(AGAIN_AFTER)
        return False

    async def _postpone(
        self, delivery: Delivery, call: Call, task: Task, delay: float, on_sent: OnSent, on_failed: OnSent
    ) -> None:
        again = _sendable(call)
        if not delivery.redelivered:  # it has certainly not been started before
            again = msgspec.structs.replace(again, start_by=call.start_by)
        reason = "the broker did not take it in time"
        try:
            for _ in range(PUBLISHES):
                with contextlib.suppress(ConnectionError):
                    await self._link.ready()
                if call.persistent and not delivery.is_ours:
                    return
                status = await self._publish(again, round(delay * 1000), task.way_back)
                if status is ConfirmStatus.CONFIRMED:
                    on_sent()
                    return
                if status is ConfirmStatus.TOO_LARGE:
                    raise MessageRefused("it is larger than the broker accepts")
                if status is ConfirmStatus.LOST and not call.persistent:
                    break  # the broker may have it, and would run it twice
                await asyncio.sleep(AGAIN_AFTER)
            if call.persistent:
                on_failed()
                return
        except MessageRefused as error:
            reason = str(error)
        except Exception:
            logger.exception("call not postponed: call_id=%s task=%s", call.id, call.task)
        logger.error("call not postponed: %s call_id=%s task=%s", reason, call.id, call.task)
        told = failure.describe(MessageRefused(f"task {call.task!r} was not started: {reason}"))
        self._replies.answer(call, failed_with(Outcome.RAISED, told), on_sent, run=refused_run(call, 0))

    def _on_confirmed(self, execution: Execution, on_sent: OnSent) -> None:
        on_sent()
        if execution.call.is_job:  # it may wait for longer than a gateway waits for a word of who runs it
            self._replies.announce(execution.call, execution.ended_run())
        elif execution.call.attempt == 1 and not execution.is_announced:
            # A client whose time is up should know that a worker took it.
            self._replies.announce(execution.call)

    async def _publish(self, call: Call, delay_ms: int, way_back: str) -> ConfirmStatus | None:
        """Publish `call` to the queue `way_back`, and wait for its confirm; None where the broker is away.

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
            logger.info("call %s of task %s waits for the broker: %s", call.id, call.task, error)
            return None
        if status is ConfirmStatus.INVALID:
            raise MessageRefused(f"the broker does not accept it: {confirm.reason}")
        if status is ConfirmStatus.REFUSED:
            self._link.change_channel()
        if status is ConfirmStatus.RETURNED:
            self._declared.pop(delay_ms, None)  # somebody has deleted the queue
        return status

    async def _declare(self, delay_ms: int) -> None:
        async with self._declaring:
            now = time.monotonic()
            if now - self._declared.get(delay_ms, -DECLARED_FOR) >= DECLARED_FOR:
                await self._link.declare_once(*topology.delay_queue(delay_ms))
                self._declared[delay_ms] = now


def _sendable(call: Call) -> Call:
    """`call` without headers of another sender that would break the connection; it has been started in time."""
    return msgspec.structs.replace(call, headers=user_headers.sendable(call.headers), start_by=None)


def _next_attempt(call: Call) -> Call:
    """`call` when it has failed once more."""
    return msgspec.structs.replace(call, attempt=call.attempt + 1)

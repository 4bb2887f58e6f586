"""Makes calls: publishes them, handles the workers' replies, and settles each call once.

A call waits for the broker within its expiration, and a timer of the client always ends it on time. When a call ends
without a reply, a control message tells the workers to stop or skip it.
"""

import asyncio
import copy
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from crew import errors
from crew.amqp import Delivery, Link
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.policy import CALLS, OutboxPolicy
from crew.client import off_loop
from crew.client.calling.call import PendingCall
from crew.client.calling.outgoing_call import OutgoingCall
from crew.client.calling.pending import MAX_BYTES, PendingCalls
from crew.client.calling.reply import result_of_reply
from crew.client.links import BLOCKED
from crew.protocol import deadline, properties, topology
from crew.protocol.encoding import codec
from crew.protocol.message import Body, Control, Outcome, Reply
from crew.protocol.properties import DeadLetter

logger = logging.getLogger(__name__)

CANCELED: Final = "canceled"
TIMEOUT: Final = "timeout"
MAX_UNSENT: Final = 10_000  # control messages that are kept while the broker is unavailable

REPLY_MARGIN: Final = 0.2  # seconds after the deadline, in which the worker's own reply may still arrive


class Calls:
    """The calls of one client: sends them over one link, and settles them with the replies of another.

    Args:
        limit: the maximum number of calls in flight.
        publishing: the link to publish on.
        consuming: the link that receives the replies; nothing is published while it is not connected.
        decode: decodes values, within the limits of this client.
        ack: acknowledges a reply; by default with all earlier deliveries of its channel, except those that are held.
        max_bytes: bytes of the bodies of calls that the broker has not confirmed.
        max_message: bytes that an encoded body may have.
        policy: how a call is published again.
    """

    def __init__(
        self,
        limit: int,
        *,
        publishing: Link,
        consuming: Link,
        decode: codec.Decode = codec.decode,
        ack: Callable[[Delivery], object] = Delivery.ack_through,
        max_bytes: int = MAX_BYTES,
        max_message: int = codec.MAX_BODY,
        policy: OutboxPolicy = CALLS,
        max_unsent: int = MAX_UNSENT,
    ) -> None:
        self._max_message = max_message
        self._max_unsent = max_unsent
        self._decode = decode
        self._ack = ack
        self._pending = PendingCalls(limit, self._on_due, max_bytes=max_bytes)
        self._publishing = publishing
        self._consuming = consuming
        self._outbox = Outbox(publishing, policy)
        self._unsent: dict[Control, str] = {}  # control messages that wait for the broker -> routing key

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def obstacle(self) -> str | None:
        """Why a call could not be sent at once, in one sentence; None if it could."""
        if not (self._publishing.is_ready and self._consuming.is_ready):
            fault = self._consuming.last_error or self._publishing.last_error
            return f"the broker is unavailable: {fault}" if fault else "the broker has not been reached yet"
        return BLOCKED if self._publishing.is_blocked else None

    def send(self, call: PendingCall[Any], expiration: float, *, fail_fast: bool = False) -> None:
        """Send `call`, and end it after `expiration` seconds at the latest.

        Args:
            fail_fast: raise an error if the broker is unavailable, instead of waiting for it.

        Raises:
            DuplicateCallId: a call with its id is in flight.
            Overloaded: too many calls are in flight, too many bytes wait for the broker, or it has blocked publishing.
            ConnectionError: the broker is unavailable, with `fail_fast`.
        """
        if self._publishing.is_blocked:
            raise errors.Overloaded(BLOCKED, task=call.task)
        if fail_fast and (why := self.obstacle):
            raise errors.ConnectionError(f"task {call.task!r} is not called: {why}")
        self._pending.add(call, expiration + REPLY_MARGIN)
        if call.message.body.to_compress:
            self._publish_later(call)
        else:
            self._publish(call)

    def send_waiting(self) -> None:
        """Send waiting calls and control messages over a new connection."""
        if self._publishing.is_ready and self._consuming.is_ready:
            self._outbox.send_waiting()
        unsent, self._unsent = self._unsent, {}
        for control, key in unsent.items():
            self._publish_control(key, control)

    def cancel(self, call: PendingCall[Any]) -> None:
        """Forget `call`, and tell the workers not to start it, or to stop it."""
        self._pending.forget(call)
        self._forget_unsent(call)
        self._send_control(call, CANCELED)

    def settle_all(self, error: Exception) -> None:
        """End every call with a copy of `error`: one shared error would keep the stacks of all who raise it."""
        for call in self._pending:
            self._settle(call, copy.copy(error))

    def close(self) -> None:
        """End every call, and the timer."""
        self.log_unawaited("the client was closed")
        for call in self._pending:
            self._send_control(call, CANCELED)
        self.settle_all(errors.ConnectionError("the client was closed", missing="client"))
        self._pending.close()
        self._outbox.close()

    def detach(self, why: str) -> None:
        """End every call without waking its waiters: their event loop is closed, or runs in another process."""
        for call in self._pending:
            call.detach(errors.ConnectionError(f"call {call.id} of task {call.task!r} {why}"))

    def log_unawaited(self, why: str) -> None:
        """Log in one line how many unawaited calls end because of `why`."""
        unawaited = [call for call in self._pending if not call.is_awaited]
        if not unawaited:
            return
        tasks = Counter(call.task for call in unawaited)
        counts = ", ".join(f"{task} ({count})" for task, count in sorted(tasks.items()))
        many = "1 call" if len(unawaited) == 1 else f"{len(unawaited)} calls"
        logger.warning("%s: canceled %s in flight that nothing awaits: %s", why, many, counts)
        for call in unawaited:
            call.is_awaited = True  # logged

    def on_reply(self, delivery: Delivery) -> None:
        """Take a message of the reply queue: a reply of a worker, or a call that the broker dead-lettered."""
        try:
            reply = properties.to_reply(delivery.properties, delivery.body)
            call = self._pending.get(reply.id)
            if call is None or reply.message_id not in (None, call.message.message_id):  # of an earlier call
                self._on_late_reply(reply)
            elif isinstance(reply, Reply) and not reply.outcome.is_end:
                call.has_started = True
            elif isinstance(reply, Reply) and codec.is_large(reply.body) and not call.keeps_body:
                self._settle_later(call, reply)
            else:
                headers = reply.headers if isinstance(reply, Reply) else None
                self._forget_unsent(call)
                self._pending.settle(call.id, result_of_reply(call, reply, self._decode), headers)
        except properties.MalformedMessage as error:
            logger.warning("reply unreadable, discarding it: queue=%s: %s", delivery.queue, error)
        finally:
            self._ack(delivery)

    def on_refused(self, delivery: Delivery) -> None:
        """Refuse an unsigned reply. If no other reply comes, the call ends at its deadline, with the reason."""
        id = delivery.properties.correlation_id
        call = self._pending.get(id) if isinstance(id, str) else None
        if call is not None:
            call.refused_reply = delivery.refusal
        delivery.ack()

    def _settle_later(self, call: PendingCall[Any], reply: Reply) -> None:
        """Settle `call` after a thread has decoded its value. Its deadline stays in force meanwhile.

        The reply is acknowledged before, so that it is not delivered again if the connection is lost.
        """

        def settle(result: Any) -> None:
            self._pending.settle(call.id, result, reply.headers)

        self._forget_unsent(call)
        self._in_thread(call, result_of_reply, call, reply, self._decode, then=settle)

    def _publish_later(self, call: PendingCall[Any]) -> None:
        """Publish `call` after a thread has compressed its body. Its deadline stays in force meanwhile."""

        def publish(body: Body | BaseException) -> None:
            if isinstance(body, BaseException):
                self._pending.settle(call.id, body)
            else:
                self._pending.set_body(call, body)
                self._publish(call)

        self._in_thread(call, codec.compressed, call.message.body, self._max_message, then=publish)

    def _in_thread(
        self, call: PendingCall[Any], step: Callable[..., Any], *given: Any, then: Callable[[Any], None]
    ) -> None:
        """Run `step(*given)` in a thread, and `then` with its value or exception, if `call` is still pending."""

        def on_done(running: "asyncio.Future[Any]") -> None:
            if self._pending.get(call.id) is call and not running.cancelled():
                error = running.exception()
                then(running.result() if error is None else error)

        off_loop.start(step, *given).add_done_callback(on_done)

    def _on_late_reply(self, reply: Reply | DeadLetter) -> None:
        """Cancel a call that has only just started: its worker may have missed the first cancel.

        The deadline of the call is no longer known here. So the cancel names its message, as another call may have its
        id by now.
        """
        if isinstance(reply, Reply) and reply.outcome is Outcome.STARTED and reply.worker is not None:
            control = Control(id=reply.id, reason=CANCELED, message_id=reply.message_id or reply.id)
            self._publish_control(topology.control_key_of_worker(reply.worker), control)
        else:
            logger.debug("late or repeated reply discarded: call_id=%s", reply.id)

    def _publish(self, call: PendingCall[Any]) -> None:
        call.unsent = message = OutgoingCall(
            call=call, pending=self._pending, publishing=self._publishing, consuming=self._consuming
        )
        self._outbox.send(message)

    def _on_due(self, call: PendingCall[Any]) -> None:
        self._send_control(call, TIMEOUT)
        refused = f" (a reply was refused: {call.refused_reply})" if call.refused_reply else ""
        if call.has_started:
            why = f"timeout: task {call.task!r} was started, but did not end in time{refused}"
            self._settle(call, errors.TimeoutError(why, task=call.task, id=call.id))
            return
        why = "no worker took" if call.is_published else "the broker could not be reached for"
        why = f"{why} task {call.task!r} in time{refused}"
        self._settle(call, errors.ExpirationError(why, task=call.task, id=call.id))

    def _settle(self, call: PendingCall[Any], error: Exception) -> None:
        if self._pending.get(call.id) is call:
            self._forget_unsent(call)
            self._pending.settle(call.id, error)

    def _forget_unsent(self, call: PendingCall[Any]) -> None:
        """If `call` waits for the broker, do not publish it: it has ended, or its reply has arrived."""
        if call.unsent is not None:
            self._outbox.discard(call.unsent)
            call.unsent = None

    # --- control messages -------------------------------------------------------------------------------------------

    def _send_control(self, call: PendingCall[Any], reason: str) -> None:
        """Tell all workers of the task to skip or stop the call: the broker may deliver it to any of them."""
        if call.was_published:
            control = Control(id=call.id, reason=reason, deadline=call.message.deadline)
            self._publish_control(topology.control_key_of_task(call.task), control)

    def _publish_control(self, key: str, control: Control) -> None:
        """Publish without a confirm: a worker that missed the message gets another one when it starts the call."""
        try:
            self._publishing.publish(topology.CONTROL, key, properties.of_control(control), b"", mandatory=False)
        except errors.ConnectionError:
            if not deadline.is_past(control.deadline, time.time()) and len(self._unsent) < self._max_unsent:
                self._unsent[control] = key

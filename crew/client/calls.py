"""The calls in flight: accept -> publish -> the broker confirms -> a worker replies -> settle.

A call waits for the broker inside its own budget, and the client's own timer ends it on time whatever else happens.
"""

import functools
import logging
import time
from typing import Final

from crew import errors
from crew.amqp import ConfirmStatus, Delivery, Link
from crew.client.answer import answer_to
from crew.client.call import PendingCall
from crew.client.pending import PendingCalls
from crew.protocol import codec, properties, topology
from crew.protocol.message import Outcome, Reply

logger = logging.getLogger(__name__)

REPLY_MARGIN: Final = 0.2  # seconds after the deadline for the worker's own word on what became of the call


class Calls:
    """Sends calls over one link, and settles them with what `on_reply` is told.

    Args:
        limit: calls that may be in flight.
        publishing: the link to publish on.
        consuming: the link over which replies come; nothing is published while they could not arrive.
        decode: what this client accepts.
    """

    def __init__(self, limit: int, *, publishing: Link, consuming: Link, decode: codec.Decode = codec.decode) -> None:
        self._decode = decode
        self._pending = PendingCalls(limit, self._on_due)
        self._publishing = publishing
        self._consuming = consuming

    def __len__(self) -> int:
        return len(self._pending)

    def send(self, call: PendingCall, expiration: float) -> None:
        """Send `call`, and end it after `expiration` seconds at the latest.

        Raises:
            DuplicateTaskId: a call with its id is in flight.
            Overloaded: too many are, or the broker has blocked publishing.
        """
        if self._publishing.is_blocked:
            raise errors.Overloaded("the broker has blocked publishing: it is short of memory or disk", task=call.task)
        self._pending.add(call, expiration + REPLY_MARGIN)
        self._publish(call)

    def send_waiting(self) -> None:
        """Send what waits for the broker."""
        for call in self._pending:
            if not call.is_published:
                self._publish(call)

    def forget(self, call: PendingCall) -> None:
        """Nobody waits for `call` any longer."""
        self._pending.forget(call)

    def settle_all(self, error: Exception) -> None:
        """End every call with `error`."""
        for call in self._pending:
            self._settle(call, error)

    def close(self) -> None:
        """End every call, and the timer."""
        self.settle_all(errors.ConnectionError("the client was closed"))
        self._pending.close()

    def on_reply(self, delivery: Delivery) -> None:
        """A message came over the reply queue: an answer, or a call that the broker gave back."""
        try:
            reply = properties.to_reply(delivery.properties, delivery.body)
            call = self._pending.get(reply.id)
            if call is None:
                logger.debug("a late or second reply to call %s is dropped", reply.id)
            elif isinstance(reply, Reply) and reply.outcome is Outcome.STARTED:
                call.has_started = True
            else:
                headers = reply.headers if isinstance(reply, Reply) else None
                self._pending.settle(call.id, answer_to(call, reply, self._decode), headers)
        except properties.MalformedMessage as error:
            logger.warning("a message in the reply queue is dropped: %s", error)
        finally:
            delivery.ack_through()

    def _publish(self, call: PendingCall) -> None:
        """Publish it now; where the broker is away, `send_waiting` does when it is back."""
        if not (self._publishing.is_ready and self._consuming.is_ready):
            return
        try:
            confirm = self._publishing.publish(
                topology.DEFAULT_EXCHANGE,
                topology.task_queue_name(call.task),
                properties.of_call(call.message, now=time.time()),
                call.message.body.data,
                mandatory=True,
            )
        except errors.ConnectionError:
            return  # it broke just now: the next connection sends it
        call.is_published = True
        confirm.then(functools.partial(self._on_confirm, call))

    def _on_confirm(self, call: PendingCall, status: ConfirmStatus) -> None:
        match status:
            case ConfirmStatus.RETURNED:
                error = errors.UnknownTask(f"no worker has ever served task {call.task!r}", task=call.task, id=call.id)
                self._settle(call, error)
            case ConfirmStatus.REFUSED:
                self._settle(
                    call, errors.Overloaded(f"the queue of task {call.task!r} is full", task=call.task, id=call.id)
                )
            case ConfirmStatus.LOST if call.message.persistent:
                call.is_published = False
            case ConfirmStatus.LOST:
                self._settle(call, errors.ConnectionError(f"the connection broke while call {call.id} was on its way"))

    def _on_due(self, call: PendingCall) -> None:
        if call.has_started:
            self._settle(
                call,
                errors.TimeoutError(
                    f"task {call.task!r} was started and did not end in time", task=call.task, id=call.id
                ),
            )
            return
        why = "no worker took" if call.is_published else "the broker could not be reached for"
        self._settle(call, errors.ExpirationError(f"{why} task {call.task!r} in time", task=call.task, id=call.id))

    def _settle(self, call: PendingCall, error: Exception) -> None:
        if self._pending.get(call.id) is call:
            self._pending.settle(call.id, error)

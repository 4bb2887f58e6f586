"""Outgoing call: the message of a pending call, on its way to the queue of its task."""

import time
from typing import Any

from crew import errors
from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.outbox.outgoing import Outgoing
from crew.client.calling.call import PendingCall
from crew.client.calling.pending import PendingCalls
from crew.protocol import properties, topology


class OutgoingCall(Outgoing, kw_only=True):
    """The message of a pending call. It ends the call if the broker does not take it.

    Attributes:
        consuming: the link that receives the reply; nothing is published while it is not connected.
    """

    call: PendingCall[Any]
    pending: PendingCalls
    publishing: Link
    consuming: Link

    def is_wanted(self) -> bool:
        """Whether the call is still pending."""
        return self.pending.get(self.call.id) is self.call

    def publish(self) -> Confirm:
        """Publish it with its remaining time; raise ConnectionError where one of the links is not connected."""
        if not self.consuming.is_ready:
            raise errors.ConnectionError("the connection for the reply is not ready")
        call, message = self.call, self.call.message
        confirm = self.publishing.publish(
            topology.DEFAULT_EXCHANGE,
            topology.task_queue_name(message.task),
            properties.of_call(message, now=time.time(), clock=self.publishing.clock_offset),
            message.body.data,
            mandatory=True,
        )
        call.was_published, call.unsent = True, None
        return confirm

    def on_retry(self, status: ConfirmStatus) -> None:
        """The call waits for the broker again."""
        self.call.unsent = self

    def on_settled(self, confirm: Confirm) -> None:
        """The broker has it, or it ends the call with an error."""
        if confirm.status is ConfirmStatus.CONFIRMED:
            self.pending.confirm(self.call)
        else:
            self.on_failed(self._error(confirm))

    def on_failed(self, error: Exception) -> None:
        """End the call with `error`."""
        if self.is_wanted():
            self.pending.settle(self.call.id, error)

    def _error(self, confirm: Confirm) -> Exception:
        """Return what the broker's refusal means to the caller."""
        task, id = self.call.task, self.call.id
        match confirm.status:
            case ConfirmStatus.TOO_LARGE:
                return errors.TooLarge(
                    f"call {id} of task {task!r} has {len(confirm.body)} bytes, more than the max_message_size of the "
                    "broker: raise that, or lower CREW_MAX_MESSAGE"
                )
            case ConfirmStatus.INVALID:
                why = f"the broker does not accept call {id} of task {task!r}: {confirm.reason}"
                return errors.MessageRefused(why, task=task, id=id)
            case ConfirmStatus.RETURNED:
                return errors.UnknownTask(f"no worker has ever served task {task!r}", task=task, id=id)
            case ConfirmStatus.REFUSED:
                return errors.Overloaded(f"the queue of task {task!r} is full", task=task, id=id)
        why = "the broker did not confirm it" if self.publishing.is_ready else "the connection broke"
        return errors.ConnectionError(f"call {id} may be lost: {why} after it was sent")

"""Converts a reply or a dead letter to the result of the call: a value, or an exception."""

from typing import Any

from crew import errors
from crew.client.calling.call import PendingCall
from crew.protocol import failure
from crew.protocol.encoding import codec
from crew.protocol.message import Outcome, Reply
from crew.protocol.properties import DeadLetter


def result_of_reply(call: PendingCall[Any], reply: Reply | DeadLetter, decode: codec.Decode = codec.decode) -> Any:
    """The decoded value of the task, or an exception as a value."""
    if isinstance(reply, DeadLetter):
        return _of_dead_letter(call, reply)
    if reply.outcome is Outcome.RETURNED:
        return reply.body if call.keeps_body else _value(call, reply, decode)
    return _error(call, reply)


def _value(call: PendingCall[Any], reply: Reply, decode: codec.Decode) -> Any:
    try:
        value = decode(reply.body)
    except errors.SerializationError as error:
        return errors.SerializationError(f"the value of call {reply.id} cannot be decoded: {error}")
    try:
        return value if call.read is None else call.read(value)
    except errors.SerializationError as error:
        return error


def _error(call: PendingCall[Any], reply: Reply) -> Exception:
    decoded = failure.decode(reply.body.data)
    if reply.outcome is Outcome.EXPIRED and call.has_started:  # its first worker was lost, and no other was in time
        return _not_finished(call)
    if reply.outcome is Outcome.RAISED:
        return failure.raised(decoded, task=call.task, id=call.id)
    if reply.outcome is Outcome.TIMED_OUT:
        return errors.TimeoutError(decoded.message or None, task=call.task, id=call.id, traceback=decoded.traceback)
    kind = _ERRORS[reply.outcome]
    return kind(decoded.message or None, task=call.task, id=call.id)


def _not_finished(call: PendingCall[Any]) -> errors.TimeoutError:
    message = f"a worker started task {call.task!r} but could not finish it, and no other worker took it in time"
    return errors.TimeoutError(message, task=call.task, id=call.id)


def _of_dead_letter(call: PendingCall[Any], letter: DeadLetter) -> Exception:
    match letter.reason:
        case "expired" if call.has_started:
            return _not_finished(call)
        case "expired":
            return errors.ExpirationError(f"no worker took task {call.task!r} in time", task=call.task, id=call.id)
        case "maxlen":
            return errors.Overloaded(f"the queue of task {call.task!r} is full", task=call.task, id=call.id)
        case "delivery_limit":
            message = (
                f"call {call.id} of task {call.task!r} was delivered more often than the policy of its queue allows"
            )
            return errors.WorkerLost(f"{message} (delivery-limit)", task=call.task, id=call.id)
        case reason:
            return errors.TaskError(f"the broker dead-lettered call {call.id}: {reason}", task=call.task, id=call.id)


_ERRORS: dict[Outcome, type[errors.TaskError]] = {
    Outcome.EXPIRED: errors.ExpirationError,
    Outcome.CANCELED: errors.Canceled,
    Outcome.UNKNOWN_TASK: errors.UnknownTask,
    Outcome.WORKER_LOST: errors.WorkerLost,
}

"""What was given up: look through `crew.parked`, send from there to the tasks again, delete."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp import Delivery
from crew.amqp.admin.browse import browse
from crew.amqp.admin.move_messages import WINDOW, MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.protocol import parked_message, topology
from crew.protocol.parked_message import ParkedMessage, to_parked
from crew.protocol.properties import REFUSED

_LEFT: Final = {
    ConfirmStatus.RETURNED: "no worker has ever served the task {task!r}",
    ConfirmStatus.REFUSED: "the queue of the task {task!r} is full",
    ConfirmStatus.TOO_LARGE: "it has {size} bytes, more than the max_message_size of the broker",
    ConfirmStatus.INVALID: "the broker does not accept it: {reason}",
}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the parked messages are meant: those to which all of this applies.

    Attributes:
        ids: one of these, or None.
        task: given up by workers of this task, or None.
        before: parked before this (epoch seconds), or None; a message that does not know is not meant then.
    """

    ids: frozenset[str] | None = None
    task: str | None = None
    before: float | None = None

    def has(self, parked: ParkedMessage) -> bool:
        """Whether `parked` is meant."""
        if self.ids is not None and parked.id not in self.ids:
            return False
        if self.task is not None and parked.task != self.task:
            return False
        return self.before is None or (parked.parked_at is not None and parked.parked_at < self.before)


class Done(msgspec.Struct, kw_only=True):
    """What became of the messages that were meant.

    Attributes:
        count: how many have left `crew.parked`.
        left: those that stay, each with the reason.
        missing: ids that no parked message has.
    """

    missing: set[str]
    count: int = 0
    left: list[tuple[str, str]] = []


async def count(session: Session, selection: Selection) -> int:
    """How many messages are meant."""
    found = 0

    def show(message: ParkedMessage) -> None:
        nonlocal found
        found += selection.has(message)

    await look(session, show)
    return found


async def look(session: Session, show: Callable[[ParkedMessage], bool | None]) -> int:
    """Show every parked message, the oldest first, and leave all of them; returns how many were shown.

    Args:
        show: is told of each; whether it has seen enough.
    """

    def take(delivery: Delivery) -> bool:
        return bool(show(to_parked(delivery.properties, delivery.body)))

    return await browse(session, topology.PARKED, take)


async def purge(session: Session, selection: Selection) -> Done:
    """Delete the messages that are meant."""
    done = Done(missing=set(selection.ids or ()))

    def take(delivery: Delivery) -> bool:
        parked = to_parked(delivery.properties, delivery.body)
        if selection.has(parked):
            done.missing.discard(parked.id)
            done.count += delivery.ack()
        return False

    await browse(session, topology.PARKED, take)
    return done


async def replay(
    session: Session, selection: Selection, *, expiration: float | None = None, trusts_unsigned: bool = False
) -> Done:
    """Publish the messages that are meant to the queues of their tasks; each leaves `crew.parked` when it is there.

    Args:
        expiration: seconds until they are not started any longer; None: they are, whenever a worker takes them.
        trusts_unsigned: whether messages that were not signed, though they had to be, are signed and sent as well.
    """
    done = Done(missing=set(selection.ids or ()))

    def take(delivery: Delivery) -> bool:
        parked = to_parked(delivery.properties, delivery.body)
        if selection.has(parked):
            done.missing.discard(parked.id)
            if problem := _problem(parked) or ("" if trusts_unsigned else _doubt(delivery)):
                done.left.append((parked.id, problem))
            else:
                again = parked_message.of_replay(parked, now=time.time(), expiration=expiration)
                mover.move(delivery, topology.task_queue_name(parked.task or ""), again)
        return False

    def on_left(delivery: Delivery, confirm: Confirm) -> None:
        parked = to_parked(delivery.properties, delivery.body)
        why = _LEFT[confirm.status or ConfirmStatus.INVALID]
        size = len(delivery.body)
        done.left.append((parked.id, why.format(task=parked.task, size=size, reason=confirm.reason)))

    mover = MessageMover(session, on_left)
    await browse(session, topology.PARKED, take, window=WINDOW, settled=mover.settled)
    done.count = mover.moved
    return done


def _doubt(delivery: Delivery) -> str:
    """Why the message may be forged, where that is so; else ""."""
    if delivery.refusal is None and REFUSED not in (delivery.properties.headers or {}):
        return ""
    return "it was not signed with CREW_SIGNING_KEY, so that anybody may have sent it; --unsigned sends it all the same"


def _problem(parked: ParkedMessage) -> str | None:
    """Why `parked` cannot be sent to its task, where it cannot."""
    try:
        topology.check_name("its task", parked.task)
    except ValueError as error:
        return str(error)
    return None

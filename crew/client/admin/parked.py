"""Parked messages: browse the queue `crew.parked`, replay messages to their tasks, or delete them."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from crew.amqp import Delivery
from crew.amqp.admin.browse import browse
from crew.amqp.admin.move_messages import WINDOW, MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.protocol import parked_message, topology
from crew.protocol.parked_message import ParkedMessage, to_parked
from crew.protocol.properties import REFUSED

_LEFT: Final = {
    ConfirmStatus.RETURNED: "no worker has ever served the task {task!r}: start one",
    ConfirmStatus.REFUSED: "the queue of the task {task!r} is full: retry when workers have run some calls",
    ConfirmStatus.TOO_LARGE: "the message has {size} bytes, more than the max_message_size of the broker",
    ConfirmStatus.INVALID: "the broker does not accept the message: {reason}",
}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Selects parked messages. A message must match every field that is not None.

    Attributes:
        ids: it has one of these ids.
        task: it is a call of this task.
        before: it was parked before this instant (epoch seconds); a message without a time does not match.
    """

    ids: frozenset[str] | None = None
    task: str | None = None
    before: float | None = None

    def matches(self, parked: ParkedMessage) -> bool:
        """Whether `parked` is selected."""
        if self.ids is not None and parked.id not in self.ids:
            return False
        if self.task is not None and parked.task != self.task:
            return False
        return self.before is None or (parked.parked_at is not None and parked.parked_at < self.before)


class ParkedResult(msgspec.Struct, kw_only=True):
    """The result of a purge or a replay.

    Attributes:
        count: the number of messages that have left `crew.parked`.
        left: ids of messages that stay, each with the reason.
        missing: selected ids that no parked message has.
    """

    missing: set[str]
    count: int = 0
    left: list[tuple[str, str]] = []


async def count(session: Session, selection: Selection) -> int:
    """Count the selected messages."""
    found = 0

    def show(message: ParkedMessage) -> None:
        nonlocal found
        found += selection.matches(message)

    await browse_parked(session, show)
    return found


async def browse_parked(session: Session, show: Callable[[ParkedMessage], bool | None]) -> int:
    """Call `show` with every parked message, the oldest first, and leave all of them; returns the number shown.

    Args:
        show: returns whether to stop.
    """

    def take(delivery: Delivery) -> bool:
        return bool(show(to_parked(delivery.properties, delivery.body)))

    return await browse(session, topology.PARKED, take)


async def purge(session: Session, selection: Selection) -> ParkedResult:
    """Delete the selected messages."""
    done = ParkedResult(missing=set(selection.ids or ()))

    def take(delivery: Delivery) -> bool:
        parked = to_parked(delivery.properties, delivery.body)
        if selection.matches(parked):
            done.missing.discard(parked.id)
            done.count += delivery.ack()
        return False

    await browse(session, topology.PARKED, take)
    return done


async def replay(
    session: Session, selection: Selection, *, expiration: float | None = None, trusts_unsigned: bool = False
) -> ParkedResult:
    """Publish the selected messages to the queues of their tasks. Each leaves `crew.parked` after the broker's confirm.

    Args:
        expiration: seconds in which a worker must start them; None: no limit.
        trusts_unsigned: whether messages without a required signature are signed and published, too.
    """
    done = ParkedResult(missing=set(selection.ids or ()))

    def take(delivery: Delivery) -> bool:
        parked = to_parked(delivery.properties, delivery.body)
        if selection.matches(parked):
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
    """Why the message may be forged, or ""."""
    if delivery.refusal is None and REFUSED not in (delivery.properties.headers or {}):
        return ""
    return "the message is not signed with CREW_SIGNING_KEY and may be forged; --unsigned replays it anyway"


def _problem(parked: ParkedMessage) -> str | None:
    """Why `parked` cannot be published to its task, or None."""
    try:
        topology.check_name("its task", parked.task)
    except ValueError as error:
        return str(error)
    return None

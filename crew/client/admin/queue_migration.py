"""Gives a task's queue that exists with other arguments those that it should have, and keeps what waits in it.

RabbitMQ cannot change a queue's arguments: it has to be deleted and declared anew. Meanwhile its messages wait in a
holding queue. Interrupted at any step, it goes on from there when it is run again:

    queue with other arguments, messages -> holding queue    each acknowledged when the holding queue has it
    queue with other arguments, empty                        deleted, where it is empty still and nobody consumes it
    no queue                                                 declared
    queue as it should be, holding queue -> queue            in the same way; then the holding queue is deleted
"""

import msgspec

from crew.amqp import Delivery
from crew.amqp.admin.browse import browse
from crew.amqp.admin.move_messages import WINDOW, MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.channel import QueueDepth
from crew.amqp.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import NOT_IMPLEMENTED, PRECONDITION_FAILED, LinkError
from crew.errors import CrewError, MessageRefused, Overloaded, UnknownTask
from crew.protocol.topology import Queue


class Migrated(msgspec.Struct, frozen=True):
    """What came of a migration.

    Attributes:
        has_changed: whether the queue was declared anew, now or by a migration that was interrupted.
        moved: messages that are back in it.
        lost: calls that came in the very moment in which a quorum queue was deleted.
    """

    has_changed: bool
    moved: int = 0
    lost: int = 0


async def migrate(session: Session, queue: Queue, holding: Queue) -> Migrated:
    """Give the queue of that name the arguments of `queue`, with the messages that wait in it, in their order.

    Args:
        holding: where they wait meanwhile.

    Raises:
        CrewError: it has consumers, or was declared by somebody else meanwhile.
        UnknownTask: there is no such queue, and nothing of an earlier migration.
        Overloaded: the new queue is too short for what waited in the old one.
        MessageRefused: the broker does not accept a message that waits there.
        LinkError: the connection broke.
    """
    lost = 0
    is_held = await session.depth(holding.name) is not None
    if await session.depth(queue.name) is None and not is_held:
        raise UnknownTask(f"there is no queue {queue.name}: no worker has ever served its task")
    await _check_room(session, queue, holding)
    while not await _is_as_it_should_be(session, queue):
        await _check_idle(session, queue)
        if not is_held:
            await session.declare(holding)
            is_held = True
        await _carry(session, queue.name, holding.name)
        lost += await _delete(session, queue.name)
    if not is_held:
        return Migrated(has_changed=False)
    moved = 0
    while _has_any(await session.depth(holding.name)):
        moved += await _carry(session, holding.name, queue.name)
    await _delete(session, holding.name)
    return Migrated(True, moved, lost)


async def _is_as_it_should_be(session: Session, queue: Queue) -> bool:
    """Whether `queue` has these arguments; it is declared where it is not there."""
    try:
        await session.declare(queue)
    except LinkError as fault:
        if not fault.has_other_arguments:
            raise
        return False
    return True


async def _check_idle(session: Session, queue: Queue) -> None:
    depth = await session.depth(queue.name)
    if depth is not None and depth.consumers:
        raise CrewError(f"{queue.name} is served by {_consumers(depth.consumers)}: stop its workers first")


async def _check_room(session: Session, queue: Queue, holding: Queue) -> None:
    """What does not fit would be left behind, and come last when it is moved at last."""
    room = queue.arguments.get("x-max-length")
    depths = [await session.depth(name) for name in (queue.name, holding.name)]
    waiting = sum(depth.ready for depth in depths if depth is not None)
    if room is not None and waiting > room:
        raise Overloaded(f"{waiting} calls wait in {queue.name}, more than --max-queue {room}: let workers run some")


def _consumers(count: int) -> str:
    return "a consumer" if count == 1 else f"{count} consumers"


async def _carry(session: Session, source: str, target: str) -> int:
    """Carry what `source` holds to `target`, in its order; returns how many that were."""

    def take(delivery: Delivery) -> bool:
        if not has_refused:
            mover.move(delivery, target)
        return bool(has_refused)

    has_refused: list[Confirm] = []
    mover = MessageMover(session, lambda _, confirm: has_refused.append(confirm))
    await browse(session, source, take, window=WINDOW, settled=mover.settled)
    if has_refused:
        raise _left(has_refused[0], source, target)
    return mover.moved


def _left(confirm: Confirm, source: str, target: str) -> CrewError:
    """Why the message of `confirm`, and those after it, could not be carried."""
    rest = f"the rest waits in {source}, and this can be run again"
    match confirm.status:
        case ConfirmStatus.REFUSED:
            return Overloaded(f"{target} is full: {rest}")
        case ConfirmStatus.RETURNED:
            return Overloaded(f"{target} is gone: {rest}")
    why = confirm.reason or f"it has {len(confirm.body)} bytes, more than the broker takes in one message"
    return MessageRefused(f"the broker does not accept message {confirm.key!r} in {source}: {why}; {rest}")


async def _delete(session: Session, queue: str) -> int:
    """Delete `queue` where it is empty and idle; returns how many messages went with it all the same."""
    try:
        return await session.delete(queue, if_idle=True)
    except LinkError as fault:
        if fault.code == PRECONDITION_FAILED:  # something came, or somebody: the next round looks again
            return 0
        if fault.code != NOT_IMPLEMENTED:
            raise
    await session.reopen()
    if _has_any(await session.depth(queue)):
        return 0
    return await session.delete(queue, if_idle=False)


def _has_any(depth: QueueDepth | None) -> bool:
    return depth is not None and depth.ready > 0

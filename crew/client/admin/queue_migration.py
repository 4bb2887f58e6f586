"""Migrates a task's queue to other arguments, and keeps its messages.

RabbitMQ cannot change the arguments of a queue: the queue must be deleted and declared again. Until then its messages
are moved to a holding queue. If the migration is interrupted, run it again; it continues at the same step:

    queue with old arguments, messages -> holding queue    each acknowledged when the holding queue has it
    queue with old arguments, empty                        deleted, if it is still empty and has no consumer
    no queue                                               declared
    queue with new arguments, holding queue -> queue       in the same way; then the holding queue is deleted
"""

import msgspec

from crew.amqp import Delivery
from crew.amqp.admin.browse import browse
from crew.amqp.admin.move_messages import WINDOW, MessageMover
from crew.amqp.admin.session import Session
from crew.amqp.channel import QueueDepth
from crew.amqp.confirms.confirm import Confirm, ConfirmStatus
from crew.amqp.errors import NOT_IMPLEMENTED, PRECONDITION_FAILED, LinkError
from crew.errors import CrewError, MessageRefused, Overloaded, UnknownTask
from crew.protocol.topology import Queue


class MigrationResult(msgspec.Struct, frozen=True):
    """The result of a migration.

    Attributes:
        has_changed: whether the queue was declared again, now or by an earlier, interrupted migration.
        moved: the number of messages that were moved back.
        lost: the number of calls that arrived at the moment in which a quorum queue was deleted.
    """

    has_changed: bool
    moved: int = 0
    lost: int = 0


async def migrate(session: Session, queue: Queue, holding: Queue) -> MigrationResult:
    """Give the queue of that name the arguments of `queue`. Its messages keep their order.

    Args:
        holding: the queue that holds the messages during the migration.

    Raises:
        CrewError: the queue has consumers, or another program has declared it meanwhile.
        UnknownTask: there is no such queue, and no holding queue of an earlier migration.
        Overloaded: the new queue is too short for the messages.
        MessageRefused: the broker does not accept one of the messages.
        LinkError: the connection broke.
    """
    lost = 0
    is_held = await session.depth(holding.name) is not None
    if await session.depth(queue.name) is None and not is_held:
        raise UnknownTask(f"there is no queue {queue.name}: no worker has ever served its task; check the name")
    await _check_room(session, queue, holding)
    while not await _is_as_it_should_be(session, queue):
        await _check_idle(session, queue)
        if not is_held:
            await session.declare(holding)
            is_held = True
        await _move(session, queue.name, holding.name)
        lost += await _delete(session, queue.name)
    if not is_held:
        return MigrationResult(has_changed=False)
    moved = 0
    while _has_any(await session.depth(holding.name)):
        moved += await _move(session, holding.name, queue.name)
    await _delete(session, holding.name)
    return MigrationResult(True, moved, lost)


async def _is_as_it_should_be(session: Session, queue: Queue) -> bool:
    """Whether `queue` has these arguments; declares it if it does not exist."""
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
        raise CrewError(f"queue {queue.name} has {_consumers(depth.consumers)}: stop its workers first")


async def _check_room(session: Session, queue: Queue, holding: Queue) -> None:
    """Check that all messages fit: the others would stay in the holding queue, and lose their place."""
    room = queue.arguments.get("x-max-length")
    depths = [await session.depth(name) for name in (queue.name, holding.name)]
    waiting = sum(depth.ready for depth in depths if depth is not None)
    if room is not None and waiting > room:
        raise Overloaded(
            f"queue {queue.name} has {waiting} calls, more than --max-queue {room}: let workers run some first"
        )


def _consumers(count: int) -> str:
    return "1 consumer" if count == 1 else f"{count} consumers"


async def _move(session: Session, source: str, target: str) -> int:
    """Move all messages of `source` to `target`, in their order; returns their number."""

    def take(delivery: Delivery) -> bool:
        if not has_refused:
            mover.move(delivery, target)
        return bool(has_refused)

    has_refused: list[Confirm] = []
    mover = MessageMover(session, lambda _, confirm: has_refused.append(confirm))
    await browse(session, source, take, window=WINDOW, settled=mover.settled)
    if has_refused:
        raise _not_moved(has_refused[0], source, target)
    return mover.moved


def _not_moved(confirm: Confirm, source: str, target: str) -> CrewError:
    """The error for the message of `confirm`: it and the messages after it could not be moved."""
    rest = f"the remaining messages are in {source}; run the migration again"
    match confirm.status:
        case ConfirmStatus.REFUSED:
            return Overloaded(f"queue {target} is full: {rest}")
        case ConfirmStatus.RETURNED:
            return Overloaded(f"queue {target} was deleted: {rest}")
    why = confirm.reason or f"it has {len(confirm.body)} bytes, more than the max_message_size of the broker"
    return MessageRefused(f"the broker does not accept message {confirm.key!r} in {source}: {why}; {rest}")


async def _delete(session: Session, queue: str) -> int:
    """Delete `queue` if it is empty and has no consumer; returns the number of messages that were lost with it."""
    try:
        return await session.delete(queue, if_idle=True)
    except LinkError as fault:
        if fault.code == PRECONDITION_FAILED:  # a message or a consumer has arrived: the next round checks again
            return 0
        if fault.code != NOT_IMPLEMENTED:
            raise
    await session.reopen()
    if _has_any(await session.depth(queue)):
        return 0
    return await session.delete(queue, if_idle=False)


def _has_any(depth: QueueDepth | None) -> bool:
    return depth is not None and depth.ready > 0

"""Finds tasks with a name that differs from a mistyped one in a single place.

AMQP cannot list queues, but a message that cannot be routed is returned. Every worker binds `task.<name>` on the
exchange `crew.control`. So one control message is published for each similar name: it is returned if no worker serves
that task. The message cancels a call that does not exist, and its deadline is over, so workers ignore it.
"""

import asyncio
import functools
import string
import time
from contextlib import suppress
from typing import Final

from crew.amqp.admin.session import Session
from crew.amqp.confirms.confirm import ConfirmStatus
from crew.amqp.errors import LinkError
from crew.protocol import properties, topology
from crew.protocol.message import Control, new_id

MAX_LENGTH: Final = 60  # characters of a name; about 3,000 names differ from it in one place
MAX_TIME: Final = 1.0  # seconds; an error message waits for the result
_LETTERS: Final = string.ascii_lowercase + string.digits + "._-"


async def similar_tasks(session: Session, task: str, *, within: float = MAX_TIME) -> list[str]:
    """Names of served tasks that differ from `task` in one place; at most a few.

    The list is empty if the broker refuses the messages, or does not answer `within` that many seconds.
    """
    served: list[str] = []
    with suppress(LinkError, TimeoutError):
        async with asyncio.timeout(within):
            await _probe(session, neighbours(task), served)
    return sorted(served)


def neighbours(name: str) -> list[str]:
    """The names that differ from `name` in one place, the most likely first: in lower case, two characters swapped, one
    missing, one replaced, one added."""
    if len(name) > MAX_LENGTH:
        return []
    letters = sorted({*_LETTERS, *name})
    parts = [(name[:at], name[at:]) for at in range(len(name) + 1)]
    found = [name.lower()]
    found += (left + right[1] + right[0] + right[2:] for left, right in parts if len(right) > 1)
    found += (left + right[1:] for left, right in parts if right)
    found += (left + letter + right[1:] for left, right in parts if right for letter in letters)
    found += (left + letter + right for left, right in parts for letter in letters)
    return [one for one in dict.fromkeys(found) if one not in (name, "")]


async def _probe(session: Session, names: list[str], served: list[str]) -> None:
    """Add those `names` to `served` that are tasks of a worker."""
    channel = await session.open_channel()
    waiting = set(names)
    all_known = asyncio.Event()

    def note(name: str, status: ConfirmStatus) -> None:
        waiting.discard(name)
        if status is ConfirmStatus.CONFIRMED:
            served.append(name)
        if not waiting:
            all_known.set()

    for name in names:
        control = properties.of_control(Control(id=new_id(), reason="canceled", deadline=time.time()))
        confirm = channel.publish(topology.CONTROL, topology.control_key_of_task(name), control, b"", mandatory=True)
        confirm.then(functools.partial(note, name))
    if names:
        await all_known.wait()

"""What a link has declared: remembered, so that every connection begins with it.

Somebody may delete an exchange while we are connected, and the broker tells nobody: whoever publishes hears of it at
his next message, but whoever is bound to it would hear nothing for ever. So what can vanish in silence is declared
again now and then, which costs the broker next to nothing where it is there.
"""

import asyncio
import logging
import shlex
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from crew.amqp.channel import Channel
from crew.amqp.errors import PRECONDITION_FAILED, LinkError
from crew.protocol.topology import CLASSIC, TASK_PREFIX, Binding, Exchange, Item, Queue, of_type, task_of_queue

logger = logging.getLogger(__name__)

# Seconds for which an event or a cancel may miss its way; a thousand workers make 300 declarations a second of that.
RENEWED_EVERY: Final = 30.0

_FLAGS: Final = {"--max-queue": "x-max-length", "--queue-type": "x-queue-type"}  # of `crew queues migrate`

OpenChannel = Callable[[], Awaitable[Channel]]


class Declarations:
    """Exchanges, queues and bindings, in the order in which they were added.

    Args:
        open_channel: opens a channel of its own for them, because a refusal costs the channel.
        queue_type: of all queues.
    """

    def __init__(self, items: Iterable[Item], open_channel: OpenChannel, *, queue_type: str) -> None:
        self._items = list(items)
        self._open_channel = open_channel
        self._queue_type = queue_type
        self._warned: list[Item] = []
        self._bound: dict[tuple[str, str, str], Binding] = {}  # as the broker has heard of them

    def __repr__(self) -> str:
        return f"<Declarations of {len(self._items)} items>"

    def __contains__(self, item: Item) -> bool:
        return item in self._items

    def add(self, items: Iterable[Item]) -> list[Item]:
        """Remember `items`; those of them that are new."""
        new = [item for item in items if item not in self._items]
        self._items += new
        return new

    def remove(self, item: Item) -> None:
        """Forget it; nothing where it is not known."""
        if item in self._items:
            self._items.remove(item)

    async def catch_up(self, there: list[Item], channel: Channel) -> bool:
        """Declare what is not `there` yet, and note it; take bindings away that were removed while nobody could.

        Args:
            there: what was declared over this connection.
            channel: to unbind over.

        Returns:
            Whether there was anything to do: meanwhile more may have been added.

        Raises:
            LinkError: the broker refuses one, or the connection broke.
        """
        known = set(map(id, there))
        new = [item for item in self._items if id(item) not in known]
        if new:
            there += new
            await self.declare(new)
        stale = self._stale()
        for binding in stale:
            await self.unbind(binding, channel)
        return bool(new or stale)

    def _stale(self) -> list[Binding]:
        """Bindings of queues that are still ours, which are not wanted any longer."""
        queues = {item.name for item in self._items if isinstance(item, Queue)}
        wanted = {_key(item) for item in self._items if isinstance(item, Binding)}
        self._bound = {key: binding for key, binding in self._bound.items() if binding.queue in queues}
        return [binding for key, binding in self._bound.items() if key not in wanted]

    async def unbind(self, binding: Binding, channel: Channel) -> None:
        """Take it away, over `channel`; raises LinkError: the next connection does it then."""
        await channel.unbind(binding)
        self._bound.pop(_key(binding), None)

    async def renew(self) -> None:
        """Declare what may have vanished without a word: a queue that goes tells its consumers; raises LinkError."""
        await self.declare([item for item in self._items if isinstance(item, Exchange | Binding)])

    async def renew_until(self, ended: "asyncio.Future[LinkError]") -> LinkError:
        """Renew them now and then; returns why the connection has ended, when it has."""
        while not (await asyncio.wait([ended], timeout=RENEWED_EVERY))[0]:
            try:
                await self.renew()
            except LinkError as fault:
                return fault
        return ended.result()

    async def declare(self, items: Iterable[Item]) -> None:
        """Declare `items`, and remember nothing; a queue or exchange with other arguments is used as it is.

        Code 406 alone does not mean other arguments: a limit of the number of queues and an argument that the broker
        does not know have it too, and then there is no queue.

        Raises:
            LinkError: the broker refuses one, or the connection broke.
        """
        channel = await self._open_channel()
        for item in [of_type(item, self._queue_type) for item in items]:
            if isinstance(item, Binding):
                self._bound[_key(item)] = item
            try:
                await channel.declare(item)
            except LinkError as fault:
                if not fault.has_other_arguments:
                    raise _refusal(item, fault) from None
                channel = await self._open_channel()
                await channel.declare(item, passive=True)
                self._warn_of_other_arguments(item, fault)
        await channel.close()

    def _warn_of_other_arguments(self, item: Item, fault: LinkError) -> None:
        if item in self._warned:
            return
        self._warned.append(item)
        logger.warning(
            "%s exists with other arguments and is used as it is; to give it crew's, %s: %s",
            _named(item),
            _way_out(item),
            fault,
        )


def _key(binding: Binding) -> tuple[str, str, str]:
    return binding.queue, binding.exchange, binding.key


def _named(item: Item) -> str:
    return f"{type(item).__name__.lower()} {item.queue if isinstance(item, Binding) else item.name}"


def _refusal(item: Item, fault: LinkError) -> LinkError:
    """`fault`, with the name of what could not be declared, where the broker refused that for a reason of its own."""
    if fault.code != PRECONDITION_FAILED:
        return fault
    return LinkError(f"{_named(item)} cannot be declared: {fault}", code=fault.code)


def _way_out(item: Item) -> str:
    if isinstance(item, Queue) and item.name.startswith(TASK_PREFIX):
        wanted = {name: value for name, value in item.arguments.items() if value != CLASSIC}
        flags = "".join(f" {flag} {wanted[name]}" for flag, name in _FLAGS.items() if name in wanted)
        return f"stop its workers and run `crew queues migrate {shlex.quote(task_of_queue(item.name))}{flags}`"
    return "let it run empty and delete it"

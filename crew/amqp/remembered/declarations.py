"""The declarations of a link, remembered so that each new connection declares them again.

An exchange may be deleted while we are connected, and the broker does not notify anybody. A publisher gets an error at
its next message. But a queue that is bound to the exchange gets no more messages. So exchanges and bindings are
declared again at intervals, which costs the broker almost nothing while they exist.
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

_FLAGS: Final = {"--max-queue": "x-max-length", "--queue-type": "x-queue-type"}  # of `crew queues migrate`

OpenChannel = Callable[[], Awaitable[Channel]]


class Declarations:
    """Exchanges, queues and bindings, in the order in which they were added.

    Args:
        open_channel: opens a separate channel for declarations, because a refusal closes the channel.
        queue_type: type of all queues.
        renewal_interval: seconds between two declarations of the exchanges and bindings by `renew_until`.
    """

    def __init__(
        self, items: Iterable[Item], open_channel: OpenChannel, *, queue_type: str, renewal_interval: float
    ) -> None:
        self._items = list(items)
        self._open_channel = open_channel
        self._queue_type = queue_type
        self._renewal_interval = renewal_interval
        self._warned: list[Item] = []
        self._bound: dict[tuple[str, str, str], Binding] = {}  # as they were declared to the broker

    def __repr__(self) -> str:
        return f"<Declarations of {len(self._items)} items>"

    def __contains__(self, item: Item) -> bool:
        return item in self._items

    def add(self, items: Iterable[Item]) -> list[Item]:
        """Remember `items`; return the new ones among them."""
        new = [item for item in items if item not in self._items]
        self._items += new
        return new

    def remove(self, item: Item) -> None:
        """Forget `item`; idempotent."""
        if item in self._items:
            self._items.remove(item)

    async def catch_up(self, declared: list[Item], channel: Channel) -> bool:
        """Declare items that are not in `declared` and add them; remove bindings that were removed while disconnected.

        Args:
            declared: items that were declared on this connection.
            channel: channel for the removal of bindings.

        Returns:
            Whether anything was done. Then more may have been added meanwhile.

        Raises:
            LinkError: the broker refuses an item, or the connection broke.
        """
        known = set(map(id, declared))
        new = [item for item in self._items if id(item) not in known]
        if new:
            declared += new
            await self.declare(new)
        stale = self._stale()
        for binding in stale:
            await self.unbind(binding, channel)
        return bool(new or stale)

    def _stale(self) -> list[Binding]:
        """Return bindings that are not remembered any more, of queues that still are."""
        queues = {item.name for item in self._items if isinstance(item, Queue)}
        wanted = {_key(item) for item in self._items if isinstance(item, Binding)}
        self._bound = {key: binding for key, binding in self._bound.items() if binding.queue in queues}
        return [binding for key, binding in self._bound.items() if key not in wanted]

    async def unbind(self, binding: Binding, channel: Channel) -> None:
        """Remove `binding` on `channel`; raise LinkError: then the next connection removes it."""
        await channel.unbind(binding)
        self._bound.pop(_key(binding), None)

    async def renew(self) -> None:
        """Declare exchanges and bindings again: only a deleted queue is reported by the broker. Raise LinkError."""
        await self.declare([item for item in self._items if isinstance(item, Exchange | Binding)])

    async def renew_until(self, ended: "asyncio.Future[LinkError]") -> LinkError:
        """Renew them at intervals until the connection has closed; return why it has closed."""
        while not (await asyncio.wait([ended], timeout=self._renewal_interval))[0]:
            try:
                await self.renew()
            except LinkError as error:
                return error
        return ended.result()

    async def declare(self, items: Iterable[Item]) -> None:
        """Declare `items` without remembering them; a queue or exchange with other arguments is used as it is.

        Code 406 alone does not mean other arguments. It also stands for a limit on the number of queues and for an
        unknown argument: then the queue does not exist.

        Raises:
            LinkError: the broker refuses an item, or the connection broke.
        """
        channel = await self._open_channel()
        for item in [of_type(item, self._queue_type) for item in items]:
            if isinstance(item, Binding):
                self._bound[_key(item)] = item
            try:
                await channel.declare(item)
            except LinkError as error:
                if not error.has_other_arguments:
                    raise _refusal(item, error) from None
                channel = await self._open_channel()
                await channel.declare(item, passive=True)
                self._warn_about_other_arguments(item, error)
        await channel.close()

    def _warn_about_other_arguments(self, item: Item, error: LinkError) -> None:
        if item in self._warned:
            return
        self._warned.append(item)
        logger.warning(
            "%s exists with other arguments and is used as it is; to change them, %s: %s",
            _named(item),
            _advice(item),
            error,
        )


def _key(binding: Binding) -> tuple[str, str, str]:
    return binding.queue, binding.exchange, binding.key


def _named(item: Item) -> str:
    return f"{type(item).__name__.lower()} {item.queue if isinstance(item, Binding) else item.name}"


def _refusal(item: Item, error: LinkError) -> LinkError:
    """Return `error` with the name of the item, where the broker refused its declaration with code 406."""
    if error.code != PRECONDITION_FAILED:
        return error
    return LinkError(f"{_named(item)} cannot be declared: {error}", code=error.code)


def _advice(item: Item) -> str:
    if isinstance(item, Queue) and item.name.startswith(TASK_PREFIX):
        wanted = {name: value for name, value in item.arguments.items() if value != CLASSIC}
        flags = "".join(f" {flag} {wanted[name]}" for flag, name in _FLAGS.items() if name in wanted)
        return f"stop its workers and run `crew queues migrate {shlex.quote(task_of_queue(item.name))}{flags}`"
    return "delete it when it is empty"

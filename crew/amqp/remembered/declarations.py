"""The declarations of a link, remembered so that each new connection declares them again.

An exchange may be deleted while we are connected, and the broker does not notify anybody. A publisher gets an error at
its next message. But a queue that is bound to the exchange gets no more messages. So exchanges and bindings are
declared again at intervals, which costs the broker almost nothing while they exist.

Many items are declared over several channels at once, and one after the other on each channel. So the item is known
whose refusal has closed a channel. RabbitMQ makes queues of several channels at once and stores them together. Measured
on 2026-11-30 with bare pika (RabbitMQ 3.10.8, two busy cores): 300 queues with ten priority levels took 13 s over one
channel, 7 s with 16 requests in flight on it, 1.5 s over 16 channels, and 2.5 s over 64.
"""

import asyncio
import collections
import logging
import math
import random
import shlex
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from crew.amqp.channel import Channel
from crew.amqp.errors import NOT_ALLOWED, PRECONDITION_FAILED, LinkError
from crew.protocol.topology import CLASSIC, TASK_PREFIX, Binding, Exchange, Item, Queue, of_type, task_of_queue

logger = logging.getLogger(__name__)

CHANNELS: Final = 16  # at most; with more, RabbitMQ makes queues no faster
ITEMS_PER_CHANNEL: Final = 8  # at least; opening a channel takes as long as two declarations
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
        self._channels = CHANNELS  # at most; 1 where the broker does not allow as many
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
        renewed = [item for item in self._items if isinstance(item, Exchange | Binding)]
        await self._declare_over_one_channel(collections.deque(renewed))  # no start waits for it

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
        typed = [of_type(item, self._queue_type) for item in items]
        if self._channels == 1 or len(typed) < 2 * ITEMS_PER_CHANNEL:
            await self._declare_over_one_channel(collections.deque(typed))
            return
        bindings = [item for item in typed if isinstance(item, Binding)]
        others = [item for item in typed if not isinstance(item, Binding)]
        # In any order: processes that start together then make different queues, and do not compete for each.
        await self._declare_over_channels(random.sample(others, len(others)))
        await self._declare_over_channels(bindings)  # their queues and exchanges exist now

    async def _declare_over_channels(self, items: Sequence[Item]) -> None:
        """Declare `items` in any order; after a refusal, declare no more of them and raise it."""
        waiting = collections.deque(items)
        channels = min(self._channels, math.ceil(len(items) / ITEMS_PER_CHANNEL))
        ends = await asyncio.gather(
            *(self._declare_over_one_channel(waiting) for _ in range(channels)), return_exceptions=True
        )
        for error in filter(None, ends):
            if not isinstance(error, LinkError) or error.code == NOT_ALLOWED:
                self._channels = 1  # the error may be a limit on the number of channels
            raise error

    async def _declare_over_one_channel(self, waiting: "collections.deque[Item]") -> None:
        """Declare the next one of `waiting` until none is left; empty it on an error."""
        channel = await self._open_channel()
        try:
            while waiting:
                channel = await self._declare(waiting.popleft(), channel)
        except BaseException:
            waiting.clear()
            raise
        finally:
            await channel.close()

    async def _declare(self, item: Item, channel: Channel) -> Channel:
        """Declare `item` on `channel`; return the channel for the next one, as a refusal closes a channel."""
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
        return channel

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

"""One supervised connection to the broker: open, lose, reopen, replay topology and consumers.

What was declared and who consumes are values that the link remembers, so that a lost connection is made again without
anybody's help: connect, declare, consume, ready. Whoever publishes hears of a loss through `on_lost`, of the return
through `on_ready`, and through each message's own Confirm.

A closed channel, a consumer that the broker cancelled and a lost connection are one case here: all end the connection,
and the next one starts from a known state.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable

import msgspec

from crew.amqp import backoff
from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm
from crew.amqp.delivery import OnDelivery
from crew.amqp.fault import PRECONDITION_FAILED, LinkFault, LinkRefused, fault_of
from crew.amqp.guard import guarded
from crew.amqp.link_state import LinkEvent, LinkMachine, LinkState
from crew.amqp.wire import Wire, close_wire, open_wire
from crew.errors import ConnectionError
from crew.protocol.properties import Properties
from crew.protocol.topology import Binding, Item, Queue
from crew.settings import Settings, redacted

logger = logging.getLogger(__name__)

SETTLED_AFTER = 5.0  # seconds: a connection that breaks sooner than that is one more failed attempt
CLOSE_TIMEOUT = 2.0  # seconds for the broker to say goodbye


class Consumer(msgspec.Struct, frozen=True):
    """Who takes the deliveries of a queue.

    Attributes:
        on_delivery: called with each Delivery, on the link's loop; must not block.
        prefetch: unacknowledged deliveries that it may hold; 0 is no bound.
    """

    queue: str
    on_delivery: OnDelivery
    prefetch: int


class Link:
    """A connection that comes back. All of it runs on one asyncio loop.

    Args:
        name: shown in the broker's list of connections, and in the log.
        topology: what to declare after every connect; `declare` adds to it.
        reports: log every failed attempt; not wanted of the second of two links to one broker.
        on_ready: called whenever the link has become ready.
        on_lost: called with the fault whenever a ready link was lost.
        on_refused: called with the fault when the broker refuses us, and no further attempt is made.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        topology: Iterable[Item] = (),
        reports: bool = True,
        on_ready: Callable[[], None] = lambda: None,
        on_lost: Callable[[LinkFault], None] = lambda fault: None,
        on_refused: Callable[[LinkFault], None] = lambda fault: None,
    ) -> None:
        self.is_blocked = False
        self._settings = settings
        self._name = name
        self._reports = reports
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._machine = LinkMachine(name)
        self._topology: list[Item] = list(topology)
        self._consumers: dict[str, Consumer] = {}
        self._wire: Wire | None = None
        self._channel: Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[LinkFault]
        self._changed = asyncio.Event()
        self._fault: LinkFault | None = None
        self._was_ready = False

    def __repr__(self) -> str:
        return f"<Link {self._name} to {redacted(self._settings.urls)}: {self.state.value}>"

    @property
    def state(self) -> LinkState:
        """What the link is doing."""
        return self._machine.state

    @property
    def fault(self) -> LinkFault | None:
        """Why it is not ready, where an attempt has failed."""
        return self._fault

    @property
    def is_ready(self) -> bool:
        """Whether it can publish and consumes."""
        return self.state is LinkState.READY

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect, and stay connected until `close`; nothing where it has begun. Needs a running loop."""
        if self._task is None or self.state is LinkState.REFUSED:
            self._move(LinkEvent.OPEN)
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name=f"link {self._name}")

    async def ready(self) -> None:
        """Wait until it is ready; raises ConnectionError where it was refused or closed."""
        while not self.is_ready:
            if self.state is LinkState.REFUSED and self._fault is not None:
                raise self._fault
            if self.state in (LinkState.CLOSED, LinkState.CLOSING):
                raise ConnectionError(f"the link {self._name} is closed")
            await self._changed.wait()

    async def close(self) -> None:
        """Close the connection and stay closed; idempotent."""
        if self.state in (LinkState.CLOSED, LinkState.CLOSING):
            return
        self._move(LinkEvent.CLOSE)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._hang_up()
        self._move(LinkEvent.CLOSED)

    # --- what is remembered -----------------------------------------------------------------------------------------

    async def declare(self, *items: Item) -> None:
        """Declare `items` now, where the link is ready, and after every reconnect."""
        new = [item for item in items if item not in self._topology]
        self._topology += new
        if self.is_ready:
            await self._unless_lost(self._declare(new))

    async def declare_once(self, *items: Item) -> None:
        """Declare `items` now and remember nothing: for queues that come and go; raises ConnectionError."""
        if not self.is_ready:
            raise self._fault or ConnectionError(f"the link {self._name} is {self.state.value}")
        await self._declare(list(items))

    async def unbind(self, binding: Binding) -> None:
        """Take `binding` away, and do not declare it again."""
        if binding in self._topology:
            self._topology.remove(binding)
            if self.is_ready and self._channel is not None:
                await self._unless_lost(self._channel.unbind(binding))

    async def delete_queue(self, queue: Queue) -> None:
        """Delete `queue`, and do not declare it again."""
        self._topology = [item for item in self._topology if item != queue]
        await self.pause(queue.name)
        if self.is_ready and self._channel is not None:
            await self._unless_lost(self._channel.delete_queue(queue.name))

    def remember(self, consumer: Consumer, *items: Item) -> None:
        """Declare `items` and consume after every connect from now on."""
        self._topology += [item for item in items if item not in self._topology]
        self._consumers[consumer.queue] = consumer

    def has_consumer(self, queue: str) -> bool:
        """Whether somebody consumes `queue`, or will when the link is ready."""
        return queue in self._consumers

    async def consume(self, consumer: Consumer) -> None:
        """Consume now, where the link is ready, and after every reconnect; replaces the queue's earlier consumer."""
        self.remember(consumer)
        if self.is_ready and self._channel is not None:
            await self._unless_lost(
                self._channel.consume(consumer.queue, consumer.on_delivery, prefetch=consumer.prefetch)
            )

    async def pause(self, queue: str) -> None:
        """Take nothing more from `queue`, until `consume`."""
        self._consumers.pop(queue, None)
        if self.is_ready and self._channel is not None:
            await self._unless_lost(self._channel.cancel(queue))

    async def _unless_lost(self, step: Coroutine[None, None, None]) -> None:
        """Do `step`; where the link is lost over it, the next connection does it, as it is remembered."""
        try:
            await step
        except LinkFault:
            if self.is_ready and not self._ended.done():
                raise

    # --- publishing -------------------------------------------------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes, *, mandatory: bool
    ) -> Confirm:
        """Publish now; raises ConnectionError where the link is not ready."""
        if not self.is_ready or self._channel is None:
            raise self._fault or ConnectionError(f"the link {self._name} is {self.state.value}")
        return self._channel.publish(exchange, routing_key, properties, body, mandatory=mandatory)

    # --- supervision ------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        urls = itertools.cycle(self._settings.urls)
        attempt = 0
        while True:
            url = next(urls)
            try:
                await self._connect(url)
                ready_at = time.monotonic()
                fault = await self._ended
                if time.monotonic() - ready_at >= SETTLED_AFTER:
                    attempt = 0
            except LinkRefused as refused:
                if not self._was_ready:
                    return self._refuse(url, refused)
                fault = refused  # a broker that is starting up may refuse for a moment
            except LinkFault as failed:
                fault = failed
            except Exception as error:  # a link that stopped to supervise itself would be lost for good
                logger.debug("%s: while connecting", self._name, exc_info=True)
                fault = fault_of(error)
            attempt += 1
            await self._lose(url, fault, backoff.delay(attempt))
            self._move(LinkEvent.OPEN)

    async def _connect(self, url: str) -> None:
        ended = self._ended = asyncio.get_running_loop().create_future()
        on_closed = functools.partial(_settle, ended)  # an earlier connection that closes late does not end this one
        self._wire = await open_wire(url, name=self._name, heartbeat=self._settings.heartbeat, on_closed=on_closed)
        self._wire.add_on_connection_blocked_callback(lambda *_: self._block(True))
        self._wire.add_on_connection_unblocked_callback(lambda *_: self._block(False))
        self._move(LinkEvent.CONNECTED)
        self._channel = await self.open_channel(on_closed=on_closed)
        await self._declare(self._topology)
        consuming: set[str] = set()
        while waiting := [consumer for queue, consumer in self._consumers.items() if queue not in consuming]:
            for consumer in waiting:
                consuming.add(consumer.queue)
                await self._channel.consume(consumer.queue, consumer.on_delivery, prefetch=consumer.prefetch)
        if self._ended.done():
            raise self._ended.result()
        self._was_ready = True
        self._fault = None
        self._move(LinkEvent.DECLARED)
        guarded(self._on_ready)()

    async def _declare(self, items: list[Item]) -> None:
        """Declare on a channel of its own, because a refusal costs the channel."""
        channel = await self.open_channel()
        for item in items:
            try:
                await channel.declare(item)
            except LinkFault as fault:
                if fault.code != PRECONDITION_FAILED:
                    raise
                channel = await self.open_channel()
                await channel.declare(item, passive=True)
                _warn_of_other_arguments(item, fault)
        await channel.close()

    async def open_channel(self, *, on_closed: Callable[[LinkFault], None] = lambda fault: None) -> Channel:
        """A channel for a moment: it ends with this connection, and does not come back; raises LinkFault."""
        if self._wire is None or not self._wire.is_open:
            raise LinkFault("the connection broke")
        channel = Channel(self._wire, on_closed=on_closed, on_canceled=self._on_canceled)
        await channel.open()
        return channel

    async def _lose(self, url: str, fault: LinkFault, wait: float) -> None:
        was_ready = self.is_ready
        self._fault = fault
        self._move(LinkEvent.FAILED)
        level = logging.WARNING if was_ready or self._reports else logging.DEBUG
        logger.log(level, "%s: %s: %s; next attempt in %.1f s", self._name, redacted((url,)), fault, wait)
        if was_ready:
            guarded(self._on_lost)(fault)
        await self._hang_up()
        await asyncio.sleep(wait)

    def _refuse(self, url: str, fault: LinkRefused) -> None:
        self._fault = LinkRefused(f"{redacted((url,))}: {fault}", code=fault.code)
        logger.error("%s: %s", self._name, self._fault)
        self._move(LinkEvent.REFUSED)
        self._on_refused(self._fault)

    async def _hang_up(self) -> None:
        wire, self._wire, self._channel, self.is_blocked = self._wire, None, None, False
        if wire is not None and close_wire(wire):
            await asyncio.wait([wire.ended], timeout=CLOSE_TIMEOUT)

    def _on_canceled(self, queue: str) -> None:
        fault = LinkFault(f"the broker cancelled the consumer of {queue}: the queue was deleted or has moved")
        _settle(self._ended, fault)

    def _block(self, blocked: bool) -> None:
        self.is_blocked = blocked
        logger.warning("%s: the broker has %s publishing", self._name, "blocked" if blocked else "unblocked")

    def _move(self, event: LinkEvent) -> None:
        self._machine.move(event)
        self._changed.set()
        self._changed = asyncio.Event()


def _settle(ended: "asyncio.Future[LinkFault]", fault: LinkFault) -> None:
    if not ended.done():
        ended.set_result(fault)


def _warn_of_other_arguments(item: Item, fault: LinkFault) -> None:
    name = item.queue if isinstance(item, Binding) else item.name
    kind = type(item).__name__.lower()
    logger.warning(
        "%s %s exists with other arguments and is used as it is; to give it crew's, let it run empty and delete it: %s",
        kind,
        name,
        fault,
    )

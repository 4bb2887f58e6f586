"""One supervised connection to the broker: open, lose, reopen, replay topology and consumers.

What was declared and who consumes are values that the link remembers, so that a lost connection is made again without
anybody's help: connect, declare, consume, ready. Whoever publishes hears of a loss through `on_lost`, of the return
through `on_ready`, and through each message's own Confirm. A closed channel, a cancelled consumer, a silent broker and
a lost connection are one case: the next one starts afresh.
"""

import asyncio
import contextlib
import copy
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable

from crew.amqp import connect_attempts, tls
from crew.amqp.backoff import Backoff
from crew.amqp.broker_clock import BrokerClock
from crew.amqp.channel import Channel
from crew.amqp.confirm import Confirm
from crew.amqp.confirm_timeout import ALONE, REPLICATED
from crew.amqp.connect_attempts import ConnectAttempts
from crew.amqp.connection.connection import BrokerConnection, ClosingConnections, open_connection
from crew.amqp.errors import LinkError, LinkRefused, advice_for, guarded, link_error, settle
from crew.amqp.link_state import LinkEvent, LinkState, LinkStateMachine
from crew.amqp.outage import Outage
from crew.amqp.publish_channel import PublishChannel
from crew.amqp.remembered import consumers
from crew.amqp.remembered.consumers import Consumer, Consumers
from crew.amqp.remembered.declarations import Declarations
from crew.amqp.remembered.replay import Replay
from crew.amqp.signed_channel import SignedChannel, Signer
from crew.errors import ConnectionError
from crew.protocol.clock import IN_STEP, ClockOffset
from crew.protocol.properties import Properties
from crew.protocol.topology import QUORUM, Binding, Item, Queue
from crew.settings import Settings, redacted

logger = logging.getLogger(__name__)


class Link:
    """A connection that comes back. All of it runs on one asyncio loop.

    Args:
        name: shown in the broker's list of connections, and in the log.
        topology: what to declare after every connect; `declare` adds to it.
        outage: writes the log lines about failed attempts; links of one process share it. Default: one of its own.
        clock: compared with the broker's after every connect, and now and then; for a link that publishes. Default: the
            clocks are not compared.
        signer: signs and checks its messages; links of one process share it. Default: one of its own, where the
            settings have a signing key.
        before_consuming: awaited before the first consumer is started. Default: nothing.
        on_ready: called whenever the link has become ready, or has lost messages that the broker never confirmed.
        on_lost: called with the fault whenever a ready link was lost.
        on_refused: called with the fault when the broker refuses us, and no further attempt is made.

    Raises:
        SettingsError: a URL, or a file for TLS that it names, cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        topology: Iterable[Item] = (),
        outage: Outage | None = None,
        clock: BrokerClock | None = None,
        signer: Signer | None = None,
        before_consuming: Callable[[], Awaitable[None]] | None = None,
        on_ready: Callable[[], None] = lambda: None,
        on_lost: Callable[[LinkError], None] = lambda fault: None,
        on_refused: Callable[[LinkError], None] = lambda fault: None,
    ) -> None:
        tls.check(settings.urls)
        self._settings = settings
        self._name = name
        self._outage = outage or Outage()
        self._clock = clock
        self._signer = signer or Signer.of(settings.signing_keys, clock)
        self._before_consuming = before_consuming
        self._comparing: asyncio.Task[None] | None = None
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._machine = LinkStateMachine(name)
        self._declarations = Declarations(topology, self.open_channel, queue_type=settings.queue_type)
        self._consumers = Consumers()
        self._connection: BrokerConnection | None = None
        self._publish_channel = PublishChannel(self.open_channel)
        self._task: asyncio.Task[None] | None = None
        self._closing = ClosingConnections()
        self._ended: asyncio.Future[LinkError]
        self._changed = asyncio.Event()
        self._fault: LinkError | None = None
        self._was_ready = False

    def __repr__(self) -> str:
        return f"<Link {self._name} to {redacted(self._settings.urls)}: {self.state.value}>"

    @property
    def state(self) -> LinkState:
        """What the link is doing."""
        return self._machine.state

    @property
    def fault(self) -> LinkError | None:
        """Why it is not ready, where an attempt has failed."""
        return self._fault

    @property
    def is_ready(self) -> bool:
        """Whether it can publish and consumes."""
        return self.state is LinkState.READY

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has blocked publishing; of a new connection it says so at the first message."""
        return self._connection is not None and self._connection.is_blocked

    @property
    def is_replicated(self) -> bool:
        """Whether its queues are on several nodes, of which one leads: without a leader a queue refuses messages."""
        return self._settings.queue_type == QUORUM

    @property
    def clock_offset(self) -> ClockOffset:
        """Seconds by which the broker's clock is ahead of this host's; IN_STEP where that is little or not known."""
        return IN_STEP if self._clock is None else self._clock.offset

    @property
    def broker_version(self) -> str:
        """What the broker that is connected calls itself, like "3.10.8"; "" where none is, or it does not say."""
        told = self._connection.server_properties if self._connection is not None else None
        return str((told or {}).get("version", ""))

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
                raise self._why_not()
            if self.state in (LinkState.CLOSED, LinkState.CLOSING):
                raise ConnectionError(f"the link {self._name} is closed")
            await self._changed.wait()

    def _why_not(self) -> ConnectionError:
        """Why it is not ready, for one who asks: an error that many raise would keep the stack of each of them."""
        return copy.copy(self._fault) or ConnectionError(f"the link {self._name} is {self.state.value}")

    async def close(self) -> None:
        """Close the connection and stay closed; idempotent."""
        if self.state in (LinkState.CLOSED, LinkState.CLOSING):
            return
        self._move(LinkEvent.CLOSE)
        self._outage.on_closed(self._name)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._publish_channel.give_up()
        self._close_connection()
        await self._closing.wait()
        self._move(LinkEvent.CLOSED)

    def drop(self) -> None:
        """Close its socket, and do nothing else: its event loop has ended, and it cannot be used any more."""
        if self._connection is not None:
            self._connection.drop()

    # --- what is remembered -----------------------------------------------------------------------------------------

    async def declare(self, *items: Item) -> None:
        """Declare `items` now, where the link is ready, and after every reconnect.

        Raises:
            LinkError: the broker refuses one; then none of them is declared again, as every reconnect would fail.
        """
        new = self._declarations.add(items)
        if self.is_ready:
            try:
                await self._unless_lost(self._declarations.declare(new))
            except LinkError:
                for item in new:
                    self._declarations.remove(item)
                raise

    async def declare_once(self, *items: Item) -> None:
        """Declare `items` now and remember nothing: for queues that come and go; raises ConnectionError."""
        if not self.is_ready:
            raise self._why_not()
        await self._declarations.declare(items)

    async def unbind(self, binding: Binding) -> None:
        """Take `binding` away, and do not declare it again."""
        if binding in self._declarations:
            self._declarations.remove(binding)
            if self.is_ready and self._publish_channel.channel is not None:
                await self._unless_lost(self._declarations.unbind(binding, self._publish_channel.channel))

    async def delete_queue(self, queue: Queue) -> None:
        """Delete `queue`, and do not declare it again."""
        self._declarations.remove(queue)
        await self.pause(queue.name)
        if self.is_ready and self._publish_channel.channel is not None:
            await self._unless_lost(self._publish_channel.channel.delete_queue(queue.name))

    def remember(self, consumer: Consumer, *items: Item) -> None:
        """Declare `items` and consume after every connect from now on."""
        self._declarations.add(items)
        self._consumers.remember(consumer)

    def has_consumer(self, queue: str) -> bool:
        """Whether somebody consumes `queue`, or will when the link is ready."""
        return queue in self._consumers

    async def consume(self, consumer: Consumer) -> None:
        """Consume now, where the link is ready, and after every reconnect; replaces the queue's earlier consumer."""
        self.remember(consumer)
        if self.is_ready and self._publish_channel.channel is not None:
            await self._unless_lost(self._consumers.start(self._publish_channel.channel, consumer))

    async def pause(self, queue: str) -> None:
        """Take nothing more from `queue`, until `consume`."""
        self._consumers.forget(queue)
        if self.is_ready and self._publish_channel.channel is not None:
            await self._unless_lost(self._publish_channel.channel.cancel(queue))

    async def _unless_lost(self, step: Coroutine[None, None, object]) -> None:
        """Do `step`; where the link is lost over it, the next connection does it, as it is remembered."""
        try:
            await step
        except LinkError:
            if self.is_ready and not self._ended.done():
                raise

    # --- publishing -------------------------------------------------------------------------------------------------

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        *,
        mandatory: bool,
        kind: type[Confirm] = Confirm,
    ) -> Confirm:
        """Publish now; raises ConnectionError where the link is not ready.

        Args:
            kind: Forwarded for a message of another sender that is moved: it keeps its signature, or has none.
        """
        if not self.is_ready or self._publish_channel.channel is None:
            raise self._why_not()
        return self._publish_channel.publish(
            self._publish_channel.channel, exchange, routing_key, properties, body, mandatory=mandatory, kind=kind
        )

    def change_channel(self) -> None:
        """Publish over another channel, in a moment. For a link that does not consume.

        One over which a quorum queue without a leader has once refused a message refuses all others for this queue,
        with RabbitMQ 3.10; and one over which a message was lost on its way to the queue loses those that follow.
        """
        self._publish_channel.change(
            functools.partial(self._open_publish_channel, self._ended), functools.partial(settle, self._ended)
        )

    async def _open_publish_channel(self, ended: "asyncio.Future[LinkError]") -> Channel:
        """A channel to publish over, whose end settles `ended`: the connection is made anew then; raises LinkError."""
        return await self.open_channel(
            on_closed=functools.partial(settle, ended),
            on_refused=functools.partial(self._on_channel_refused, ended),
            on_timeout=self._on_confirm_timeout,
            confirm_timeout=REPLICATED if self.is_replicated else ALONE,
        )

    def _on_channel_refused(self, ended: "asyncio.Future[LinkError]", channel: Channel, fault: LinkError) -> None:
        """The broker has closed `channel` over one of its messages; the connection and all other messages stay."""
        open_channel = functools.partial(self._open_publish_channel, ended)
        self._publish_channel.on_refused(channel, fault, open_channel, functools.partial(settle, ended))

    async def _on_confirm_timeout(self, channel: Channel, last: int) -> None:
        """Messages up to number `last` of `channel` are not confirmed: they are lost, as with a connection.

        The link is ready all the time, over another channel; so `on_ready` is called, for whoever publishes them again.
        """
        if self._publish_channel.channel is channel:
            self.change_channel()
            await self._publish_channel.changed()
        await channel.give_up(last)
        if self.is_ready:
            guarded(self._on_ready)()

    # --- supervision ------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        urls = connect_attempts.urls_in_turn(self._settings.urls, first=connect_attempts.first_host())
        connect = functools.partial(open_connection, name=self._name, heartbeat=self._settings.heartbeat)
        attempts = ConnectAttempts(urls, connect, on_failed=self._report)
        backoff = Backoff()
        while True:
            try:
                await self._connect(attempts)
                backoff.on_ready()
                fault = await self._declarations.renew_until(self._ended)
            except LinkRefused as refused:
                if not self._was_ready:
                    self._close_connection()  # what was refused may have been a channel: the connection is still there
                    return self._refuse(attempts.url, refused)
                fault = refused  # a broker that is starting up may refuse for a moment
            except LinkError as lost:
                fault = lost
            except Exception as error:  # a link that stopped to supervise itself would be lost for good
                logger.debug("%s: while connecting", self._name, exc_info=True)
                fault = link_error(error)
            await self._lose(attempts.url, fault, backoff.next())
            self._move(LinkEvent.OPEN)

    async def _connect(self, attempts: ConnectAttempts) -> None:
        ended = self._ended = asyncio.get_running_loop().create_future()
        on_closed = functools.partial(settle, ended)  # an earlier connection that closes late does not end this one
        self._connection = connection = await attempts.first()
        connection.ended.add_done_callback(lambda closed: on_closed(closed.result()))
        self._move(LinkEvent.CONNECTED)
        self._publish_channel.channel = channel = await self._open_publish_channel(ended)
        if self._before_consuming is not None:
            await self._before_consuming()
        await (replay := Replay(self._declarations, self._consumers, channel)).run()
        if self._clock is not None:
            self._comparing = asyncio.get_running_loop().create_task(self._clock.keep(self._open_unblocked, ended))
            await self._clock.compared()
        if self._ended.done():
            raise self._ended.result()
        self._was_ready = True
        self._fault = None
        self._move(LinkEvent.DECLARED)
        self._outage.on_ready(self._name)
        guarded(self._on_ready)()
        await replay.catch_up()  # from now on everybody does it himself

    async def open_channel(
        self,
        *,
        on_closed: Callable[[LinkError], None] = lambda fault: None,
        on_refused: Callable[[Channel, LinkError], None] | None = None,
        on_timeout: Callable[[Channel, int], Awaitable[None]] | None = None,
        confirm_timeout: float = ALONE,
    ) -> Channel:
        """A channel that ends with this connection, and does not come back; raises LinkError."""
        if self._connection is None or not self._connection.is_open:
            raise LinkError("the connection broke")
        kind = Channel if self._signer is None else functools.partial(SignedChannel, signer=self._signer)
        channel = kind(
            self._connection,
            on_closed=on_closed,
            on_canceled=consumers.end_on_cancel(on_closed),
            on_refused=on_refused,
            on_timeout=on_timeout,
            confirm_timeout=confirm_timeout,
        )
        await channel.open()
        return channel

    async def _open_unblocked(self) -> Channel:
        """As `open_channel`, but fails while the broker does not read what is published."""
        if self.is_blocked:
            raise LinkError("the broker has blocked publishing")
        return await self.open_channel()

    async def _lose(self, url: str, fault: LinkError, wait: float) -> None:
        was_ready = self.is_ready
        self._move(LinkEvent.FAILED)
        self._report(url, fault, f"next attempt in {wait:.1f} s")
        if was_ready:
            guarded(self._on_lost)(fault)
        self._publish_channel.lose(fault, was_ready=was_ready)
        self._close_connection()
        await asyncio.sleep(wait)

    def _report(self, url: str, fault: LinkError, then: str = "another attempt goes on") -> None:
        advice = advice_for(fault, url)
        self._fault = LinkError(f"{redacted((url,))}: {fault}", code=fault.code, advice=advice)
        self._outage.on_failed(self._name, str(self._fault), then + advice)

    def _refuse(self, url: str, fault: LinkRefused) -> None:
        self._fault = LinkRefused(f"{redacted((url,))}: {fault}", code=fault.code)
        self._outage.on_closed(self._name)
        self._outage.on_refused(self._name, str(self._fault))
        self._move(LinkEvent.REFUSED)
        self._on_refused(self._fault)

    def _close_connection(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
            self._comparing = None
        self._closing.close(self._connection)
        self._connection = self._publish_channel.channel = None

    def _move(self, event: LinkEvent) -> None:
        self._machine.move(event)
        self._changed.set()
        self._changed = asyncio.Event()

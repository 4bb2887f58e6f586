"""One supervised connection to the broker: it reconnects, declares the topology again and restarts the consumers.

A link remembers what was declared and what is consumed. So it restores a lost connection by itself: connect, declare,
consume, ready. Publishers get a loss through `on_lost`, a reconnect through `on_ready`, and the result of each message
through its Confirm. A closed channel, a canceled consumer, a silent broker and a lost connection are handled alike:
the link makes a new connection.
"""

import asyncio
import contextlib
import copy
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable

from crew.amqp.backoff import Backoff
from crew.amqp.broker_clock import BrokerClock
from crew.amqp.channel import Channel, QueueDepth
from crew.amqp.confirms.confirm import Confirm
from crew.amqp.connection import connect_attempts, tls
from crew.amqp.connection.connect_attempts import ConnectAttempts
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
    """A connection that reconnects by itself. It runs on one event loop.

    Args:
        name: name of the connection in the broker's lists and in the log.
        topology: declared after every connect; `declare` adds to it.
        outage: writes the log lines about failed attempts; the links of a process share it. Default: its own.
        clock: compares this host's clock with the broker's after every connect and at intervals; for a link that
            publishes. Default: the clocks are not compared.
        signer: signs and checks messages; the links of a process share it. Default: its own, where the settings have a
            signing key.
        before_consuming: awaited before the first consumer is started. Default: nothing.
        on_ready: called whenever the link has become ready, or has lost messages that the broker did not confirm.
        on_lost: called with the error whenever a ready link has lost its connection.
        on_refused: called with the error when the broker refuses the link, which does not retry then.

    Raises:
        SettingsError: a URL, or a TLS file that it names, cannot be used.
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
        on_lost: Callable[[LinkError], None] = lambda error: None,
        on_refused: Callable[[LinkError], None] = lambda error: None,
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
        self._declarations = Declarations(
            topology,
            self.open_channel,
            queue_type=settings.queue_type,
            renewal_interval=settings.tuning.renewal_interval,
        )
        self._consumers = Consumers()
        self._connection: BrokerConnection | None = None
        self._publish_channel = PublishChannel(self.open_channel)
        self._task: asyncio.Task[None] | None = None
        self._closing = ClosingConnections(settings.tuning.close_timeout)
        self._ended: asyncio.Future[LinkError]
        self._changed = asyncio.Event()
        self._last_error: LinkError | None = None
        self._was_ready = False

    def __repr__(self) -> str:
        return f"<Link {self._name} to {redacted(self._settings.urls)}: {self.state.value}>"

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self._machine.state

    @property
    def last_error(self) -> LinkError | None:
        """The error of the last failed attempt, while the link is not ready; else None."""
        return self._last_error

    @property
    def is_ready(self) -> bool:
        """Whether it is connected and has declared everything: it can publish."""
        return self._machine.state is LinkState.READY

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has blocked publishing. On a new connection the broker reports it at the first message."""
        return self._connection is not None and self._connection.is_blocked

    @property
    def is_replicated(self) -> bool:
        """Whether it uses quorum queues: a quorum queue without a leader refuses messages."""
        return self._settings.queue_type == QUORUM

    @property
    def clock_offset(self) -> ClockOffset:
        """Seconds by which the broker's clock is ahead of this host's clock; IN_STEP where that is small or unknown."""
        return IN_STEP if self._clock is None else self._clock.offset

    @property
    def broker_version(self) -> str:
        """Version of the connected broker, like "3.10.8"; "" where it is unknown."""
        properties = self._connection.server_properties if self._connection is not None else None
        return str((properties or {}).get("version", ""))

    # --- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect, and reconnect until `close`; idempotent. Needs a running event loop."""
        if self._task is None or self.state is LinkState.REFUSED:
            self._move(LinkEvent.OPEN)
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name=f"link {self._name}")

    async def ready(self) -> None:
        """Wait until it is ready; raise ConnectionError where it was refused or closed."""
        while not self.is_ready:
            if self.state is LinkState.REFUSED and self._last_error is not None:
                raise self._why_not()
            if self.state in (LinkState.CLOSED, LinkState.CLOSING):
                raise ConnectionError(f"the connection {self._name!r} is closed")
            await self._changed.wait()

    def _why_not(self) -> ConnectionError:
        """Return a new error that says why it is not ready: a shared one would keep the stack of each caller."""
        return copy.copy(self._last_error) or ConnectionError(f"the connection {self._name!r} is {self.state.value}")

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
        self._publish_channel.lose_waiting()
        self._close_connection()
        await self._closing.wait()
        self._move(LinkEvent.CLOSED)

    def drop(self) -> None:
        """Only close its socket: its event loop has ended, so that it cannot be used any more."""
        if self._connection is not None:
            self._connection.drop()

    # --- what is remembered -----------------------------------------------------------------------------------------

    async def declare(self, *items: Item) -> None:
        """Declare `items` now, where the link is ready, and after every reconnect.

        Raises:
            LinkError: the broker refuses one of them. Then none of them is remembered: every reconnect would fail.
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
        """Declare `items` now, but not after a reconnect: for short-lived queues; raise ConnectionError."""
        if not self.is_ready:
            raise self._why_not()
        await self._declarations.declare(items)

    async def unbind(self, binding: Binding) -> None:
        """Remove `binding`, and do not declare it again."""
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
        """From now on, declare `items` and start `consumer` after every connect."""
        self._declarations.add(items)
        self._consumers.remember(consumer)

    def has_consumer(self, queue: str) -> bool:
        """Whether `queue` has a consumer here, which may still wait for the connection."""
        return queue in self._consumers

    async def consume(self, consumer: Consumer) -> None:
        """Consume now, where the link is ready, and after every reconnect; replace the queue's earlier consumer."""
        self.remember(consumer)
        if self.is_ready and self._publish_channel.channel is not None:
            await self._unless_lost(self._consumers.start(self._publish_channel.channel, consumer))

    async def pause(self, queue: str) -> None:
        """Stop to consume `queue`, until `consume`."""
        self._consumers.forget(queue)
        if self.is_ready and self._publish_channel.channel is not None:
            await self._unless_lost(self._publish_channel.channel.cancel(queue))

    async def depth(self, queue: str) -> QueueDepth:
        """Return the depth of `queue`, at a moment after this call.

        Deliveries that the broker sent to the consumers of this link before that moment have arrived when this returns.

        Raises:
            ConnectionError: the link is not ready, or the queue does not exist.
        """
        if not self.is_ready or (channel := self._publish_channel.channel) is None:
            raise self._why_not()
        depth = await channel.depth(queue)
        # While a channel of the broker waits for the queue, deliveries from the queue wait behind this request. The
        # channel sends them before it answers the next request.
        await channel.depth(queue)
        return depth

    async def _unless_lost(self, step: Coroutine[None, None, object]) -> None:
        """Await `step`. Ignore its error where the connection was lost: the next connection repeats the step."""
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
        """Publish now; raise ConnectionError where the link is not ready.

        Args:
            kind: Forwarded for a message of another sender that is moved: it is not signed again.
        """
        if not self.is_ready or self._publish_channel.channel is None:
            raise self._why_not()
        return self._publish_channel.publish(
            self._publish_channel.channel, exchange, routing_key, properties, body, mandatory=mandatory, kind=kind
        )

    def change_channel(self) -> None:
        """Begin to publish on another channel soon. For a link that does not consume.

        RabbitMQ 3.10 needs this: once a quorum queue without a leader has refused a message, the channel refuses all
        further messages for this queue. And a channel that has lost a message on its way to a queue also loses those
        that follow.
        """
        self._publish_channel.change(
            functools.partial(self._open_publish_channel, self._ended), functools.partial(settle, self._ended)
        )

    async def _open_publish_channel(self, ended: "asyncio.Future[LinkError]") -> Channel:
        """Open a channel for publishing; when it closes, `ended` is set and the link reconnects. Raises LinkError."""
        tuning = self._settings.tuning
        return await self.open_channel(
            on_closed=functools.partial(settle, ended),
            on_refused=functools.partial(self._on_channel_refused, ended),
            on_timeout=self._on_confirm_timeout,
            confirm_timeout=tuning.quorum_confirm_timeout if self.is_replicated else tuning.confirm_timeout,
        )

    def _on_channel_refused(self, ended: "asyncio.Future[LinkError]", channel: Channel, error: LinkError) -> None:
        """The broker has closed `channel` because of one message; keep the connection and all other messages."""
        open_channel = functools.partial(self._open_publish_channel, ended)
        self._publish_channel.on_refused(channel, error, open_channel, functools.partial(settle, ended))

    async def _on_confirm_timeout(self, channel: Channel, last: int) -> None:
        """Handle a confirm timeout: the messages of `channel` up to number `last` are LOST, as with a connection.

        The link stays ready, on another channel. So `on_ready` is called, for the owners that publish again.
        """
        if self._publish_channel.channel is channel:
            self.change_channel()
            await self._publish_channel.changed()
        await channel.lose_up_to(last)
        if self.is_ready:
            guarded(self._on_ready)()

    # --- supervision ------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        urls = connect_attempts.urls_in_turn(self._settings.urls, first=connect_attempts.first_host())
        connect = functools.partial(
            open_connection,
            name=self._name,
            heartbeat=self._settings.heartbeat,
            read_bytes=self._settings.tuning.read_bytes,
        )
        attempts = ConnectAttempts(urls, connect, on_failed=self._report)
        backoff = Backoff()
        while True:
            try:
                await self._connect(attempts)
                backoff.on_ready()
                reason = await self._declarations.renew_until(self._ended)
            except LinkRefused as refused:
                if not self._was_ready:
                    self._close_connection()  # the broker may have refused a channel only: the connection is still open
                    return self._refuse(attempts.url, refused)
                reason = refused  # a broker that is starting may refuse for a moment
            except LinkError as lost:
                reason = lost
            except Exception as error:  # an error here must not end the supervision: nothing would reconnect
                logger.debug("unexpected error while connecting link=%r", self._name, exc_info=True)
                reason = link_error(error)
            await self._lose(attempts.url, reason, backoff.next())
            self._move(LinkEvent.OPEN)

    async def _connect(self, attempts: ConnectAttempts) -> None:
        ended = self._ended = asyncio.get_running_loop().create_future()
        on_closed = functools.partial(settle, ended)  # of this connection only: an earlier one may close late
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
        self._last_error = None
        self._move(LinkEvent.DECLARED)
        self._outage.on_ready(self._name)
        guarded(self._on_ready)()
        await replay.catch_up()  # what was added meanwhile; from now on `declare` and `consume` act at once

    async def open_channel(
        self,
        *,
        on_closed: Callable[[LinkError], None] = lambda error: None,
        on_refused: Callable[[Channel, LinkError], None] | None = None,
        on_timeout: Callable[[Channel, int], Awaitable[None]] | None = None,
        confirm_timeout: float | None = None,
    ) -> Channel:
        """Open a channel of the present connection, which is not reopened after a reconnect; raise LinkError.

        Args:
            confirm_timeout: half of the confirm timeout in seconds; default: that of classic queues.
            Others: see Channel.
        """
        if self._connection is None or not self._connection.is_open:
            raise LinkError("the connection broke")
        kind = Channel if self._signer is None else functools.partial(SignedChannel, signer=self._signer)
        channel = kind(
            self._connection,
            on_closed=on_closed,
            on_canceled=consumers.close_on_cancel(on_closed),
            on_refused=on_refused,
            on_timeout=on_timeout,
            confirm_timeout=self._settings.tuning.confirm_timeout if confirm_timeout is None else confirm_timeout,
        )
        await channel.open()
        return channel

    async def _open_unblocked(self) -> Channel:
        """As `open_channel`, but fail while the broker has blocked publishing."""
        if self.is_blocked:
            raise LinkError("the broker has blocked publishing")
        return await self.open_channel()

    async def _lose(self, url: str, error: LinkError, wait: float) -> None:
        was_ready = self.is_ready
        self._move(LinkEvent.FAILED)
        self._report(url, error, f"retrying in {wait:.1f} s")
        if was_ready:
            guarded(self._on_lost)(error)
        self._publish_channel.lose(error, was_ready=was_ready)
        self._close_connection()
        await asyncio.sleep(wait)

    def _report(self, url: str, error: LinkError, then: str = "another attempt is under way") -> None:
        advice = advice_for(error, url)
        self._last_error = LinkError(f"{redacted((url,))}: {error}", code=error.code, advice=advice)
        self._outage.on_failed(self._name, str(self._last_error), then + advice)

    def _refuse(self, url: str, error: LinkRefused) -> None:
        self._last_error = LinkRefused(f"{redacted((url,))}: {error}", code=error.code)
        self._outage.on_closed(self._name)
        self._outage.on_refused(self._name, str(self._last_error))
        self._move(LinkEvent.REFUSED)
        self._on_refused(self._last_error)

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

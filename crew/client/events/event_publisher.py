"""Event publisher: publishes events in their order until the broker has taken them."""

import asyncio
import functools
import time

import msgspec

from crew import errors
from crew.amqp import Confirm, ConfirmStatus, Link
from crew.amqp.outbox.outbox import Outbox
from crew.amqp.outbox.outgoing import AwaitedMessage
from crew.amqp.outbox.policy import EVENTS
from crew.client import off_loop
from crew.client.links import BLOCKED
from crew.client.started import PendingEvent
from crew.protocol import properties, topology
from crew.protocol.message import Event


class OutgoingEvent(AwaitedMessage, kw_only=True):
    """An event on its way to the queues of its topic."""

    event: Event
    link: Link

    def publish(self) -> Confirm:
        """Publish it once; raise ConnectionError, or Overloaded while the broker has blocked publishing."""
        if self.link.is_blocked:
            raise errors.Overloaded(BLOCKED)
        fields = properties.of_event(self.event, now=time.time())
        return self.link.publish(topology.PUBSUB, self.event.topic, fields, self.event.body.data, mandatory=False)


class EventPublisher:
    """Publishes the events of one client over `link`.

    Args:
        max_message: bytes that an encoded body may have.
    """

    def __init__(self, link: Link, *, max_message: int) -> None:
        self._link = link
        self._max_message = max_message
        self._outbox = Outbox(link, EVENTS)
        self._publishing: set[asyncio.Task[None]] = set()
        self._delayed = 0  # events that are compressed, or wait for those
        self._turn = asyncio.Lock()  # keeps them in their order

    def __repr__(self) -> str:
        return f"<EventPublisher: {self._outbox!r}>"

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """The background tasks."""
        return self._publishing | self._outbox.tasks

    def start(self, event: Event, timeout: float) -> PendingEvent:
        """Start to publish `event`, at once if the broker is connected; raises Overloaded. Needs a running loop."""
        publishing = asyncio.get_running_loop().create_task(self._settled(self._send(event), timeout))
        self._publishing.add(publishing)
        publishing.add_done_callback(self._publishing.discard)
        return PendingEvent(event.topic, publishing)

    async def publish(self, event: Event, timeout: float) -> None:
        """Publish `event`; returns when the broker has it.

        Raises:
            ConnectionError: the broker did not take it within `timeout` seconds.
            Overloaded: the broker has blocked publishing.
            TooLarge: the event exceeds the max_message_size of the broker.
            MessageRefused: the broker does not accept the message for another reason.
        """
        await self._settled(self._send(event), timeout)

    async def sent(self, within: float) -> None:
        """Wait, for at most `within` seconds, until the current events are published or have failed."""
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=within)

    def _send(self, event: Event) -> OutgoingEvent:
        """Pass `event` to the outbox; raises Overloaded."""
        if self._link.is_blocked:
            raise errors.Overloaded(BLOCKED)
        message = OutgoingEvent(event=event, link=self._link)
        if event.body.to_compress or self._delayed:
            self._delayed += 1
            message.prepare = functools.partial(self._compress_in_turn, message)
        self._outbox.send(message)
        return message

    async def _compress_in_turn(self, message: OutgoingEvent) -> None:
        """Compress a large event, after all earlier ones; raises TooLarge. The outbox publishes it at once then."""
        message.prepare = None
        try:
            async with self._turn:
                body = await off_loop.compressed(message.event.body, self._max_message)
                message.event = msgspec.structs.replace(message.event, body=body)
        finally:
            self._delayed -= 1

    async def _settled(self, message: OutgoingEvent, timeout: float) -> None:
        """Wait until the broker has the event; raises as `publish`."""
        topic = message.event.topic
        try:
            async with asyncio.timeout(timeout):
                confirm = await self._outbox.settled(message)
        except TimeoutError:
            raise errors.ConnectionError(
                f"the broker did not take the event on {topic!r} within {timeout:g} s"
            ) from None
        match confirm.status:
            case ConfirmStatus.CONFIRMED:
                return
            case ConfirmStatus.TOO_LARGE:
                size = len(confirm.body)
                raise errors.TooLarge(
                    f"the event on {topic!r} has {size} bytes, more than the broker's max_message_size"
                )
            case ConfirmStatus.INVALID:
                raise errors.MessageRefused(f"the broker does not accept the event on {topic!r}: {confirm.reason}")
        raise errors.ConnectionError(f"the event on {topic!r} may be lost: the connection broke before its confirm")

"""One AMQP channel: pika's callbacks as awaitables.

Every callback runs in `guarded`. A method that waits for the broker raises LinkError when the channel closes meanwhile.
"""

import asyncio
import copy
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pika

from crew.amqp.confirms.confirm import Confirm
from crew.amqp.confirms.confirm_timeout import ConfirmTimeout
from crew.amqp.confirms.unconfirmed import Unconfirmed
from crew.amqp.connection.connection import BrokerConnection
from crew.amqp.delivery import Delivery, OnDelivery, discard
from crew.amqp.errors import LinkError, guarded, link_error
from crew.protocol.properties import Properties
from crew.protocol.topology import Binding, Exchange, Item, Queue

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 30.0  # seconds for the broker to answer a request
ACK_WITHIN = 0.005  # seconds to collect acknowledgements: one for each reply would add latency to the next call


class QueueDepth(msgspec.Struct, frozen=True):
    """Number of messages and consumers of a queue.

    Attributes:
        ready: messages that wait in the queue. Delivered messages without acknowledgement do not count.
        consumers: number of its consumers.
    """

    ready: int
    consumers: int


class Channel:
    """One channel of a connection.

    Args:
        on_closed: called once with the reason when the channel has closed.
        on_refused: called instead of `on_closed` where the broker has closed only this channel while messages were
            unconfirmed: one of them may be the cause. It takes these messages over. Default: they are LOST.
        on_canceled: called with the name of a queue whose consumer the broker has canceled.
        on_timeout: called with the number of the last message that was not confirmed in time; it calls `lose_up_to`.
            Default: the channel calls `lose_up_to` itself.
        confirm_timeout: half of the confirm timeout in seconds, see confirm_timeout.py.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        *,
        on_closed: Callable[[LinkError], None],
        on_canceled: Callable[[str], None],
        confirm_timeout: float,
        on_refused: "Callable[[Channel, LinkError], None] | None" = None,
        on_timeout: "Callable[[Channel, int], Awaitable[None]] | None" = None,
    ) -> None:
        self._connection = connection
        self._on_closed = on_closed
        self._on_refused = on_refused
        self._on_canceled = on_canceled
        self._waiting: set[asyncio.Future[Any]] = set()
        self._unconfirmed = Unconfirmed()
        self._confirm_timeout = ConfirmTimeout(
            self._unconfirmed,
            seconds=confirm_timeout,
            is_stalled=lambda: connection.is_stalled,
            ask=self._ask,
            on_timeout=self.lose_up_to if on_timeout is None else functools.partial(on_timeout, self),
        )
        self._is_retired = False
        self._tags: dict[str, str] = {}
        self._done_through = 0
        self._held: set[int] = set()  # tags of deliveries that are not done when later ones are
        self._is_lost = False
        self._close_reason = LinkError("the channel is closed")
        self._consuming = asyncio.Lock()  # a prefetch applies to the consumers that are started next
        self._prefetch: int | None = None  # of the consumer that is started next
        self._pika: pika.channel.Channel

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Channel {state}, {len(self._unconfirmed)} unconfirmed, {len(self._tags)} consumers>"

    @property
    def is_open(self) -> bool:
        """Whether the channel can be used."""
        return not self._is_lost and bool(self._pika.is_open)

    async def open(self) -> None:
        """Open the channel with publisher confirms; raise LinkError."""
        opened: asyncio.Future[Any] = self._answer()
        self._pika = self._connection.channel(on_open_callback=lambda _: _resolve(opened, None))
        self._pika.add_on_close_callback(guarded(self._on_close))
        self._pika.add_on_cancel_callback(guarded(self._on_cancel))
        self._pika.add_on_return_callback(guarded(self._on_return))
        await self._answered(opened)
        confirming: asyncio.Future[Any] = self._answer()
        self._pika.request_confirms(guarded(self._unconfirmed.on_confirm), lambda frame: _resolve(confirming, frame))
        await self._answered(confirming)
        self._confirm_timeout.start()

    async def close(self) -> None:
        """Close the channel; idempotent."""
        if self.is_open:
            self._pika.close()

    async def retire(self) -> bool:
        """Close the channel once all its messages are settled, without calling `on_closed`; return False until then."""
        self._is_retired = True
        if self.is_open and not self._unconfirmed:
            self._on_closed = lambda error: None
            await self.close()
        return not self.is_open

    def lose(self, error: LinkError) -> None:
        """The connection is lost: fail all waiting methods and messages now, before the broker confirms the close."""
        self._is_lost = True
        self._on_close(self, error)

    # --- declaring --------------------------------------------------------------------------------------------------

    async def declare(self, item: Item, *, passive: bool = False) -> None:
        """Declare an exchange, queue or binding.

        Args:
            passive: only check that it exists.

        Raises:
            LinkError: with `has_other_arguments` where it exists with other arguments; with code 404 where a passive
                declaration finds nothing.
        """
        match item:
            case Exchange():
                await self._call(
                    self._pika.exchange_declare,
                    exchange=item.name,
                    exchange_type=item.kind,
                    durable=True,
                    passive=passive,
                )
            case Queue():
                await self._call(
                    self._pika.queue_declare, queue=item.name, durable=True, arguments=item.arguments, passive=passive
                )
            case Binding():
                await self._call(
                    self._pika.queue_bind,
                    queue=item.queue,
                    exchange=item.exchange,
                    routing_key=item.key,
                    arguments=item.arguments,
                )

    async def unbind(self, binding: Binding) -> None:
        """Remove `binding`; raise LinkError."""
        await self._call(
            self._pika.queue_unbind,
            queue=binding.queue,
            exchange=binding.exchange,
            routing_key=binding.key,
            arguments=binding.arguments,
        )

    async def depth(self, queue: str) -> QueueDepth:
        """Return the depth of `queue`; raise LinkError, with code 404 where the queue does not exist."""
        method = (await self._call(self._pika.queue_declare, queue=queue, passive=True)).method
        return QueueDepth(method.message_count, method.consumer_count)

    async def delete_queue(self, name: str, *, if_idle: bool = False) -> int:
        """Delete the queue `name` with its messages; return their number.

        Args:
            if_idle: only where it is empty and has no consumers.

        Raises:
            LinkError: with code 406 where it is not idle; with code 540 for a quorum queue, which has no such check.
        """
        deleted = await self._call(self._pika.queue_delete, queue=name, if_unused=if_idle, if_empty=if_idle)
        return int(deleted.method.message_count)

    # --- consuming --------------------------------------------------------------------------------------------------

    async def consume(
        self,
        queue: str,
        on_delivery: OnDelivery,
        *,
        prefetch: int,
        priority: int = 0,
        on_refused: OnDelivery = discard,  # for SignedChannel
        waits: bool = True,
    ) -> None:
        """Consume `queue`, in place of an earlier consumer of this channel.

        Args:
            prefetch: unacknowledged deliveries at a time; 0 for no limit.
            priority: consumers with a lower priority get only the messages for which this consumer has no room.
            on_refused: see Consumer. Not used here: this channel does not check signatures.
            waits: return when the broker has answered. Else the next method that waits raises a refusal, which closes
                the channel.

        Raises:
            LinkError: the channel is closed, or closed meanwhile.
        """
        async with self._consuming:
            await self.cancel(queue)
            if prefetch != self._prefetch:
                await self._call(self._pika.basic_qos, prefetch_count=prefetch)
                self._prefetch = prefetch
            on_message = guarded(functools.partial(self._on_message, queue, on_delivery))
            arguments = {"x-priority": priority} if priority else {}
            self._check_open()
            if not waits:
                self._tags[queue] = self._pika.consume_without_answer(queue, on_message, arguments)
                return
            consuming: asyncio.Future[Any] = self._answer()
            self._tags[queue] = self._pika.basic_consume(
                queue, on_message, arguments=arguments, callback=lambda frame: _resolve(consuming, frame)
            )
            await self._answered(consuming)

    async def cancel(self, queue: str) -> None:
        """Stop to consume `queue`. Messages that arrive before the broker has processed this are requeued."""
        tag = self._tags.pop(queue, None)
        if tag is not None and self.is_open:
            canceling: asyncio.Future[Any] = self._answer()
            self._pika.basic_cancel(tag, callback=lambda frame: _resolve(canceling, frame))
            await self._answered(canceling)

    def ack(self, tag: int) -> bool:
        """Acknowledge a delivery; return False where the channel is closed."""
        if not self.is_open:
            logger.debug("channel closed: delivery not acknowledged, the broker redelivers it delivery_tag=%d", tag)
            return False
        self._held.discard(tag)
        self._pika.basic_ack(tag)
        return True

    def hold(self, tag: int) -> None:
        """Except a delivery from `ack_through` of later ones, until it is acknowledged by `ack`.

        The broker closes a channel that acknowledges a delivery for the second time: 406, unknown delivery tag.
        """
        self._held.add(tag)

    def ack_through(self, tag: int) -> None:
        """Acknowledge all deliveries up to `tag` after `ACK_WITHIN`: one frame for all that are done by then.

        While earlier deliveries are held, acknowledge only `tag`, at once.
        """
        if self._held:
            self.ack(tag)
            return
        if not self._done_through:
            asyncio.get_running_loop().call_later(ACK_WITHIN, guarded(self._ack_done))
        self._done_through = tag

    def _ack_done(self) -> None:
        tag, self._done_through = self._done_through, 0
        if self.is_open:
            self._pika.basic_ack(tag, True)

    def requeue(self, tag: int) -> bool:
        """Requeue a delivery; return False where the channel is closed, which has requeued it already."""
        if self.is_open:
            self._pika.basic_nack(tag, requeue=True)
        return self.is_open

    def reject(self, tag: int) -> bool:
        """Reject a delivery, so that the broker dead-letters it; return False where the channel is closed."""
        if self.is_open:
            self._pika.basic_nack(tag, requeue=False)
        return self.is_open

    def requeue_all(self) -> None:
        """Requeue all unacknowledged deliveries; do nothing where the channel is closed."""
        if self.is_open:
            self._pika.basic_nack(0, multiple=True, requeue=True)

    # --- publishing -------------------------------------------------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes, *, mandatory: bool
    ) -> Confirm:
        """Publish a message.

        Args:
            mandatory: a message that no queue takes is RETURNED. Else it is CONFIRMED, though it is lost.

        Raises:
            LinkError: the channel is closed.
            ValueError: a property does not fit into its field.
        """
        message = Confirm(exchange, routing_key, properties, body, mandatory)
        self.send(message)
        return message

    def send(self, message: Confirm) -> None:
        """Publish `message` for the first time or again; raise as `publish` does."""
        if not self.is_open:
            raise LinkError("the channel is closed")
        self._pika.basic_publish(
            message.exchange, message.routing_key, message.body, message.properties, message.mandatory
        )
        self._unconfirmed.add(message)

    def take_unconfirmed(self) -> list[Confirm]:
        """Return the unconfirmed messages in their order; the caller now has to settle them."""
        return self._unconfirmed.take()

    async def lose_up_to(self, last: int) -> None:
        """Settle as LOST the unconfirmed messages up to number `last`, though the channel is open."""
        if count := self._unconfirmed.lose_up_to(last):
            logger.warning(
                "confirm timeout: the broker did not confirm messages; publishing the persistent ones again count=%d",
                count,
            )
        if self._is_retired:
            await self.retire()

    # --- callbacks of pika ------------------------------------------------------------------------------------------

    def _on_message(
        self,
        queue: str,
        on_delivery: OnDelivery,
        _channel: object,
        method: Any,
        properties: Properties,
        body: bytes,
    ) -> None:
        if self._is_lost:
            return  # the broker requeues it when the connection closes
        tag, topic = method.delivery_tag, method.routing_key
        on_delivery(Delivery(self, tag, queue, topic, method.redelivered, properties, body))

    def _on_return(self, _channel: object, method: Any, properties: Properties, _body: bytes) -> None:
        self._unconfirmed.on_return(method.exchange, method.routing_key, properties.correlation_id)

    def _on_cancel(self, frame: Any) -> None:
        for queue, tag in list(self._tags.items()):
            if tag == frame.method.consumer_tag:
                del self._tags[queue]
                self._on_canceled(queue)

    def _on_close(self, _channel: object, reason: BaseException) -> None:
        error = self._close_reason = link_error(reason)
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # retrieved: else asyncio logs it where no task waits any more
        has_consumers = bool(self._tags)
        self._tags.clear()
        self._confirm_timeout.stop()
        is_refusal = error.is_of_message and bool(self._unconfirmed) and not (has_consumers or self._is_lost)
        if is_refusal and self._on_refused is not None:
            self._on_refused(self, error)
            return
        self._on_closed(error)
        self._unconfirmed.lose(error)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self.is_open:
            raise copy.copy(self._close_reason)  # a shared one would keep the stack of each caller

    async def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        self._check_open()
        answer = self._answer()
        method(**arguments, callback=lambda frame: _resolve(answer, frame))
        return await self._answered(answer)

    async def _ask(self) -> None:
        """Send a request that changes nothing: channel.flow with the present value."""
        await self._call(self._pika.flow, active=True)

    async def _answered(self, answer: "asyncio.Future[Any]") -> Any:
        """Return the broker's answer. Without an answer in time the connection is closed; the next one asks again.

        A broker that blocks publishing does not read requests until it has recovered, so that time does not count.
        """
        while not (await asyncio.wait([answer], timeout=ANSWER_WITHIN))[0]:
            if not self._connection.is_blocked:
                error = LinkError(f"request timeout: the broker did not answer within {ANSWER_WITHIN:.0f} s")
                self._on_closed(error)
                raise error
        return answer.result()

    def _answer(self) -> "asyncio.Future[Any]":
        """Return a future for the broker's answer; it fails with a LinkError when the channel closes before."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future


def _resolve(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)

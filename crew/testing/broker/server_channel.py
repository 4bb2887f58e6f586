"""One channel of a connection to the in-memory broker: AMQP methods in and out."""

from collections.abc import Callable
from typing import Any, Protocol

from pika import frame, spec

from crew.testing.broker.broker import Broker
from crew.testing.broker.errors import AmqpError, ChannelClosed, ConnectionClosed
from crew.testing.broker.message import Message

_PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)


class Connection(Protocol):
    """The connection of a channel.

    Attributes:
        user: who has logged in.
    """

    broker: Broker
    user: str

    def send(self, channel: int, method: Any) -> None:
        """Send a method frame."""

    def send_message(self, channel: int, method: Any, properties: Any, body: bytes) -> None:
        """Send a method with a message."""

    def on_published(self) -> None:
        """A message has arrived."""


class ServerChannel:
    """The broker's end of a channel.

    Args:
        number: of the channel in its connection.
    """

    def __init__(self, session: Connection, number: int) -> None:
        self._session = session
        self._number = number
        self._broker = session.broker
        self._channel = session.broker.open_channel(self, owner=session)
        self._is_closing = False
        self._publish: spec.Basic.Publish | None = None
        self._header: frame.Header | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._methods: dict[type, Callable[[Any], Any]] = {
            spec.Basic.Ack: self._ack,
            spec.Basic.Nack: self._nack,
            spec.Basic.Reject: self._reject,
            spec.Basic.Qos: self._qos,
            spec.Basic.Consume: self._consume,
            spec.Basic.Cancel: self._cancel,
            spec.Basic.Get: self._get,
            spec.Basic.Recover: self._recover,
            spec.Confirm.Select: self._select,
            spec.Queue.Declare: self._declare_queue,
            spec.Queue.Bind: self._bind,
            spec.Queue.Unbind: self._unbind,
            spec.Queue.Purge: self._purge,
            spec.Queue.Delete: self._delete_queue,
            spec.Exchange.Declare: self._declare_exchange,
            spec.Exchange.Delete: self._delete_exchange,
            spec.Channel.Flow: self._flow,
        }

    def end(self) -> None:
        """The channel or its connection has ended."""
        self._channel.close()

    def close_with(self, error: AmqpError) -> None:
        """Close the channel because of `error`, and ignore what comes until the client has confirmed that."""
        self._is_closing = True
        self._channel.close()
        self._send(spec.Channel.Close(error.code, str(error), 0, 0))

    # --- in ---------------------------------------------------------------------------------------------------------

    def on_frame(self, value: Any) -> bool:
        """Handle a frame; returns whether the channel has ended.

        Raises:
            ChannelClosed, ConnectionClosed: the client made a mistake.
        """
        if self._is_closing:
            return isinstance(value, frame.Method) and isinstance(value.method, spec.Channel.CloseOk)
        if isinstance(value, frame.Method):
            return self._on_method(value.method)
        if self._publish is None:
            raise ConnectionClosed(501, "a frame of a message without its method")
        if isinstance(value, frame.Header):
            self._header, self._missing = value, value.body_size
        else:
            self._body.append(value.fragment)
            self._missing -= len(value.fragment)
        if self._missing <= 0:
            self._on_message()
        return False

    def _on_method(self, method: Any) -> bool:
        if isinstance(method, spec.Basic.Publish):
            self._publish = method
            return False
        if isinstance(method, spec.Channel.Close):
            self.end()
            self._send(spec.Channel.CloseOk())
            return True
        if (handler := self._methods.get(type(method))) is None:
            raise ConnectionClosed(540, f"method {method.NAME} is not implemented")
        handler(method)
        return False

    def _on_message(self) -> None:
        publish, header = self._publish, self._header
        body, self._body = b"".join(self._body), []
        self._publish = self._header = None
        assert publish is not None
        assert header is not None
        message = Message(
            exchange=publish.exchange,
            routing_key=publish.routing_key,
            properties=_properties_of(header.properties),
            body=body,
        )
        self._session.on_published()
        self._check(message)
        self._channel.publish(message, mandatory=publish.mandatory)

    def _check(self, message: Message) -> None:
        user = message.properties.get("user_id")
        if user is not None and user != self._session.user:
            raise ChannelClosed(
                406, f"user_id property set to '{user}' but authenticated user was '{self._session.user}'"
            )
        for name in ("CC", "BCC"):
            if not isinstance(message.headers.get(name, []), list):
                raise ChannelClosed(406, f"{name} header must be an array")

    # --- methods ----------------------------------------------------------------------------------------------------

    def _ack(self, method: spec.Basic.Ack) -> None:
        self._channel.ack(method.delivery_tag, multiple=method.multiple)

    def _nack(self, method: spec.Basic.Nack) -> None:
        self._channel.reject(method.delivery_tag, multiple=method.multiple, requeue=method.requeue)

    def _reject(self, method: spec.Basic.Reject) -> None:
        self._channel.reject(method.delivery_tag, requeue=method.requeue)

    def _qos(self, method: spec.Basic.Qos) -> None:
        self._channel.set_prefetch(method.prefetch_count)
        self._send(spec.Basic.QosOk())

    def _consume(self, method: spec.Basic.Consume) -> None:
        tag = self._channel.consume(
            method.queue,
            method.consumer_tag,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            arguments=method.arguments,
        )
        if not method.nowait:
            self._send(spec.Basic.ConsumeOk(tag))
        self._broker.queue(method.queue, self._session).deliver()

    def _cancel(self, method: spec.Basic.Cancel) -> None:
        self._channel.cancel(method.consumer_tag)
        if not method.nowait:
            self._send(spec.Basic.CancelOk(method.consumer_tag))

    def _get(self, method: spec.Basic.Get) -> None:
        found = self._channel.get(method.queue, no_ack=method.no_ack)
        if found is None:
            self._send(spec.Basic.GetEmpty())
            return
        tag, entry, left = found
        message = entry.message
        answer = spec.Basic.GetOk(tag, entry.is_redelivered, message.exchange, message.routing_key, left)
        self._send_message(answer, message)

    def _recover(self, method: spec.Basic.Recover) -> None:
        self._channel.recover()
        self._send(spec.Basic.RecoverOk())

    def _select(self, method: spec.Confirm.Select) -> None:
        self._channel.confirms = True
        if not method.nowait:
            self._send(spec.Confirm.SelectOk())

    def _flow(self, method: spec.Channel.Flow) -> None:
        self._send(spec.Channel.FlowOk(method.active))

    def _declare_queue(self, method: spec.Queue.Declare) -> None:
        queue = self._broker.declare_queue(
            method.queue,
            owner=self._session,
            passive=method.passive,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=method.arguments or {},
        )
        if not method.nowait:
            self._send(spec.Queue.DeclareOk(queue.name, len(queue), len(queue.consumers)))

    def _bind(self, method: spec.Queue.Bind) -> None:
        self._broker.bind(method.queue, method.exchange, method.routing_key, method.arguments or {}, self._session)
        if not method.nowait:
            self._send(spec.Queue.BindOk())

    def _unbind(self, method: spec.Queue.Unbind) -> None:
        self._broker.unbind(method.queue, method.exchange, method.routing_key, method.arguments or {}, self._session)
        self._send(spec.Queue.UnbindOk())

    def _purge(self, method: spec.Queue.Purge) -> None:
        count = self._broker.queue(method.queue, self._session).purge()
        if not method.nowait:
            self._send(spec.Queue.PurgeOk(count))

    def _delete_queue(self, method: spec.Queue.Delete) -> None:
        count = self._broker.delete_queue(
            method.queue, owner=self._session, if_unused=method.if_unused, if_empty=method.if_empty
        )
        if not method.nowait:
            self._send(spec.Queue.DeleteOk(count))

    def _declare_exchange(self, method: spec.Exchange.Declare) -> None:
        self._broker.declare_exchange(
            method.exchange,
            method.type,
            passive=method.passive,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
        )
        if not method.nowait:
            self._send(spec.Exchange.DeclareOk())

    def _delete_exchange(self, method: spec.Exchange.Delete) -> None:
        self._broker.delete_exchange(method.exchange, if_unused=method.if_unused)
        if not method.nowait:
            self._send(spec.Exchange.DeleteOk())

    # --- out: see Peer ----------------------------------------------------------------------------------------------

    def on_delivery(self, consumer_tag: str, delivery_tag: int, *, redelivered: bool, message: Message) -> None:
        """Send basic.deliver."""
        method = spec.Basic.Deliver(consumer_tag, delivery_tag, redelivered, message.exchange, message.routing_key)
        self._send_message(method, message)

    def on_return(self, message: Message, code: int, text: str) -> None:
        """Send basic.return."""
        self._send_message(spec.Basic.Return(code, text, message.exchange, message.routing_key), message)

    def on_confirm(self, number: int, *, is_taken: bool) -> None:
        """Send basic.ack or basic.nack."""
        self._send(spec.Basic.Ack(number) if is_taken else spec.Basic.Nack(number, requeue=False))

    def on_cancel(self, consumer_tag: str) -> None:
        """Send basic.cancel."""
        self._send(spec.Basic.Cancel(consumer_tag, nowait=True))

    def _send(self, method: Any) -> None:
        self._session.send(self._number, method)

    def _send_message(self, method: Any, message: Message) -> None:
        properties = spec.BasicProperties(**message.properties)
        self._session.send_message(self._number, method, properties, message.body)


def _properties_of(properties: Any) -> dict[str, Any]:
    return {name: value for name in _PROPERTIES if (value := getattr(properties, name)) is not None}

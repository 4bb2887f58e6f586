"""One connection to the in-memory broker: AMQP 0-9-1 frames in and out, for the rules in `broker.py`.

pika encodes and decodes the frames; crew's own codec is on the other side, so that each checks the other.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

from pika import frame, spec

from crew.testing.broker.broker import VERSION, Broker
from crew.testing.broker.errors import AmqpError, ChannelClosed, ConnectionClosed
from crew.testing.broker.server_channel import ServerChannel

FRAME_MAX: Final = 131_072  # bytes, as RabbitMQ
CHANNEL_MAX: Final = 2047
LARGEST_MESSAGE: Final = 128 * 1024 * 1024  # bytes, as RabbitMQ 3.10
_PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
_HEARTBEAT: Final = frame.Heartbeat().marshal()
_HEAD: Final = 7  # bytes of a frame before its payload
_CAPABILITIES: Final = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
    "per_consumer_qos",
)


class Session(asyncio.Protocol):
    """The broker's end of one connection.

    Args:
        heartbeat: seconds that it suggests to the client; 0: none, unless the client asks for them.
        on_processed: called after frames were processed: something may expire earlier now.
        on_closed: called with the session when its connection has ended.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        heartbeat: int,
        on_processed: Callable[[], None],
        on_closed: Callable[["Session"], None],
    ) -> None:
        self.broker = broker
        self.name = ""
        self.vhost = "/"
        self.user = "guest"
        self._heartbeat = heartbeat
        self._on_processed = on_processed
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._channels: dict[int, ServerChannel] = {}
        self._is_greeted = False
        self._is_closing = False
        self._block_reason: str | None = None  # of publishing; the broker tells it at the first message
        self._is_blocked = False
        self._has_published = False
        self._frame_max = FRAME_MAX
        self._heartbeats: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Session {self.name!r}: {len(self._channels)} channels>"

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: what was not acknowledged goes back to its queues."""
        self._transport = None
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        self._end()
        self._on_closed(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += data
        self._process()

    # --- on demand --------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Lose the connection, without a word to the client."""
        if self._transport is not None:
            self._transport.abort()

    def close(self, code: int, text: str) -> None:
        """Close the connection with connection.close."""
        self._close(ConnectionClosed(code, text))

    def block(self, reason: str) -> None:
        """Stop to read from this connection once it publishes, as RabbitMQ does when a resource is short."""
        self._block_reason = reason
        if self._has_published:
            self._stop_reading()

    def unblock(self) -> None:
        """Read again."""
        self._block_reason = None
        if self._is_blocked:
            self._is_blocked = False
            self.send(0, spec.Connection.Unblocked())
            self._process()

    def _stop_reading(self) -> None:
        if not self._is_blocked and self._block_reason is not None:
            self._is_blocked = True
            self.send(0, spec.Connection.Blocked(self._block_reason))

    # --- out --------------------------------------------------------------------------------------------------------

    def send(self, channel: int, method: Any) -> None:
        """Send a method frame."""
        self._write(frame.Method(channel, method).marshal())

    def send_message(self, channel: int, method: Any, properties: Any, body: bytes) -> None:
        """Send a method with a message."""
        pieces = [frame.Method(channel, method).marshal(), frame.Header(channel, len(body), properties).marshal()]
        most = self._frame_max - _HEAD - 1
        pieces += [frame.Body(channel, body[at : at + most]).marshal() for at in range(0, len(body), most)]
        self._write(b"".join(pieces))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _beat(self, interval: float) -> None:
        """Send a heartbeat at each interval: the client closes a connection that is silent."""
        if self._transport is not None:
            self._write(_HEARTBEAT)
            self._heartbeats = asyncio.get_running_loop().call_later(interval, self._beat, interval)

    # --- in ---------------------------------------------------------------------------------------------------------

    def _process(self) -> None:
        try:
            while not self._is_blocked and (data := self._next_frame()) is not None:
                self._handle(data)
        except ConnectionClosed as error:
            self._close(error)
        self._on_processed()

    def _next_frame(self) -> bytes | None:
        """Take one complete frame out of what was received."""
        buffer = self._received
        if not self._is_greeted:
            if len(buffer) < len(_PROTOCOL_HEADER):
                return None
            size = len(_PROTOCOL_HEADER)
        else:
            if len(buffer) < _HEAD:
                return None
            size = struct.unpack_from(">L", buffer, 3)[0] + _HEAD + 1
            if size > self._frame_max:
                raise ConnectionClosed(501, f"frame of {size} bytes is larger than {self._frame_max}")
            if len(buffer) < size:
                return None
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    def _handle(self, data: bytes) -> None:
        if not self._is_greeted:
            self._greet(data)
            return
        try:
            value = frame.decode_frame(data)[1]
        except Exception as error:  # pika raises errors of many types
            raise ConnectionClosed(501, f"a frame cannot be decoded: {error}") from None
        if isinstance(value, frame.Heartbeat) or value is None:
            return
        number = value.channel_number
        if number == 0:
            if not isinstance(value, frame.Method):
                raise ConnectionClosed(501, "a frame of a message is for channel 0")
            self._on_connection_method(value.method)
        elif not self._is_closing:
            self._on_channel_frame(number, value)

    def _greet(self, data: bytes) -> None:
        if data != _PROTOCOL_HEADER:
            self._write(_PROTOCOL_HEADER)
            self.cut()
            return
        self._is_greeted = True
        properties = {
            "product": "RabbitMQ",
            "version": VERSION,
            "platform": "crew.testing",
            "cluster_name": "crew.testing",
            "capabilities": dict.fromkeys(_CAPABILITIES, True),
        }
        self.send(0, spec.Connection.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US"))

    def _on_connection_method(self, method: Any) -> None:
        if isinstance(method, spec.Connection.StartOk):
            self.name = str(method.client_properties.get("connection_name", ""))
            self.user = _user_of(method.response)
            self.send(0, spec.Connection.Tune(CHANNEL_MAX, FRAME_MAX, self._heartbeat))
        elif isinstance(method, spec.Connection.TuneOk):
            self._frame_max = min(method.frame_max or FRAME_MAX, FRAME_MAX)
            if method.heartbeat:
                self._beat(method.heartbeat / 2)
        elif isinstance(method, spec.Connection.Open):
            if method.virtual_host != "/":
                raise ConnectionClosed(530, f"vhost {method.virtual_host} not found")
            self.send(0, spec.Connection.OpenOk())
        elif isinstance(method, spec.Connection.Close):
            self._end()
            self.send(0, spec.Connection.CloseOk())
            if self._transport is not None:
                self._transport.close()
        elif isinstance(method, spec.Connection.CloseOk):
            if self._transport is not None:
                self._transport.close()
        else:
            raise ConnectionClosed(503, f"unexpected method {method.NAME}")

    def _on_channel_frame(self, number: int, value: Any) -> None:
        channel = self._channels.get(number)
        if channel is None:
            if not isinstance(value, frame.Method) or not isinstance(value.method, spec.Channel.Open):
                raise ConnectionClosed(504, "expected 'channel.open'")
            self._channels[number] = ServerChannel(self, number)
            self.send(number, spec.Channel.OpenOk())
            return
        try:
            if channel.on_frame(value):
                del self._channels[number]
        except ChannelClosed as error:
            channel.close_with(error)

    def on_published(self) -> None:
        """A message has arrived: while publishing is blocked, no further frame is read."""
        self._has_published = True
        if self._block_reason is not None:
            self._stop_reading()

    # --- end --------------------------------------------------------------------------------------------------------

    def _close(self, error: AmqpError) -> None:
        if not self._is_closing:
            self._end()
            self._is_closing = True
            self.send(0, spec.Connection.Close(error.code, str(error), 0, 0))

    def _end(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.end()
        self.broker.close_owner(self)
        self._on_processed()


def _user_of(response: bytes | str) -> str:
    """The user name of a PLAIN login."""
    text = response.decode("utf-8", "replace") if isinstance(response, bytes) else response
    parts = text.split("\0")
    return parts[1] if len(parts) > 1 else "guest"

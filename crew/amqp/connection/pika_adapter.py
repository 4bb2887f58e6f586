"""The private names of pika that crew uses. No other module uses one.

pika has no public way to read and write with other sizes, to send frames of one's own, or to see a frame before its
callbacks. So these classes override private methods of pika, and give public names to its private attributes.
`tests/unit/amqp/connection/test_pika_adapter.py` checks each of them: a release of pika that changes one fails there.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pika
import pika.frame
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection, _AsyncioIOServicesAdapter


class PikaConnection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """pika's connection on an asyncio event loop.

    Attributes:
        io_services: pika's adapter of the event loop.
        channels: the open channels, by number.
        socket: the connected socket; None before and after.
        unwritten: the data that `write` could not write yet.
    """

    socket: Any = None
    unwritten: Sequence[bytes] = ()

    def __init__(
        self,
        *args: Any,
        custom_ioloop: asyncio.AbstractEventLoop,
        socket_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.io_services = (
            IOServices(custom_ioloop) if socket_path is None else UnixIOServices(custom_ioloop, socket_path)
        )
        super().__init__(*args, custom_ioloop=self.io_services, **kwargs)
        self.channels: dict[int, Any] = self._channels

    @property
    def largest_body(self) -> int:
        """Body bytes that fit into one frame, as agreed with the broker."""
        return int(self._body_max_length)

    def read_at_most(self, size: int) -> None:
        """Limit the bytes of one read from now on."""
        if self._transport is not None:
            self._transport._MAX_RECV_BYTES = size

    def write(self, data: bytes | memoryview) -> None:
        """Write to the socket when it is writable, after the data that waits already."""
        self._transport.write(data)

    def process_frame(self, value: Any) -> None:
        """Let pika handle a decoded frame: it calls `deliver_to_channel` for a frame of a message."""
        self._process_frame(value)

    def terminate(self, error: BaseException) -> None:
        """Close the socket at once, and end the connection with `error`."""
        self._terminate_stream(error)

    # --- called by pika: a subclass overrides them -------------------------------------------------------------------

    def read_sizes(self) -> tuple[int, int]:
        """Bytes of one read, and bytes after which no further read follows in the same loop iteration."""
        raise NotImplementedError

    def on_bytes(self, data: bytes) -> None:
        """Handle bytes that have arrived."""
        raise NotImplementedError

    def on_stream_lost(self, error: BaseException | None) -> None:
        """Handle the end of the TCP connection."""
        raise NotImplementedError

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send frames that pika has encoded."""
        raise NotImplementedError

    def deliver_to_channel(self, value: Any) -> None:
        """Pass a frame of a message to its channel."""
        raise NotImplementedError

    def new_channel(self, number: int, on_open: Callable[[Any], Any] | None) -> Any:
        """Make the channel with this number."""
        raise NotImplementedError

    # --- pika's names ------------------------------------------------------------------------------------------------

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES, transport._MAX_CONSUME_BYTES = self.read_sizes()
        self.socket, self.unwritten = transport._sock, transport._tx_buffers
        super()._proto_connection_made(transport)

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        self.socket = None
        self.on_stream_lost(error)
        super()._proto_connection_lost(error)

    def _on_data_available(self, data_in: bytes) -> None:
        self.on_bytes(data_in)

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        self.send_frames(marshaled_frames)

    def _deliver_frame_to_channel(self, value: Any) -> None:
        self.deliver_to_channel(value)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], Any] | None) -> Any:
        return self.new_channel(channel_number, on_open_callback)


class PikaChannel(pika.channel.Channel):  # type: ignore[misc]  # pika has no types
    """pika's channel."""

    def consumer_of(self, tag: str) -> Callable[..., Any] | None:
        """The callback of the consumer with this tag; None if it does not exist or was canceled."""
        return None if tag in self._cancelled else self._consumers.get(tag)

    def consume_without_answer(self, queue: str, on_message: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        """Consume `queue` as pika's basic_consume; return the tag. The broker does not answer."""
        tag: str = self._generate_consumer_tag()
        self._consumers[tag] = on_message
        self._rpc(spec.Basic.Consume(queue=queue, consumer_tag=tag, nowait=True, arguments=dict(arguments)))
        return tag

    def handle_content_frame(self, value: Any) -> None:
        """Let pika handle a frame of a message."""
        self._handle_content_frame(value)

    def content_problem(self, content: Any) -> str | None:
        """Return the protocol error in a frame of a message, or None.

        A message is a method frame, one header frame, and body frames with as many bytes as the header announces: AMQP
        0-9-1 §4.2.6. pika accepts such errors, or raises an exception that nothing catches.
        """
        message = self._content_assembler
        if isinstance(content, pika.frame.Method):
            if message._method_frame is not None:
                return f"{content.method.NAME} inside another message"
        elif isinstance(content, pika.frame.Header):
            if message._method_frame is None or message._header_frame is not None:
                return "a header frame without a message"
        elif message._header_frame is None:
            return "a body frame without a header"
        elif message._seen_so_far + len(content.fragment) > message._header_frame.body_size:
            return "more body bytes than its header announces"
        return None


class IOServices(_AsyncioIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """As pika's adapter, but handle a connection that is accepted and reset at once, as by a proxy without its broker.

    pika checks the socket once more and raises an exception that nothing catches. The attempt would then last until its
    timeout.

    Attributes:
        sockets: the sockets that it was given to connect.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.sockets: list[socket.socket] = []

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        """See pika."""
        self.sockets.append(sock)
        return super().connect_socket(sock, resolved_addr, on_done)

    def create_streaming_connection(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, on_done: Callable[[Any], None], **options: Any
    ) -> Any:
        """See pika; `on_done` is called for every failure."""
        try:
            return super().create_streaming_connection(protocol_factory, sock, on_done, **options)
        except ValueError:
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            return self.call_later(0, lambda: on_done(error))


class UnixIOServices(IOServices):
    """As IOServices, but connect to a Unix domain socket, whatever address pika asks for.

    pika creates an internet socket, connects it, and makes a transport of it. Here its socket stays unused.

    Args:
        path: of the Unix domain socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str) -> None:
        super().__init__(loop)
        self._path = path

    def getaddrinfo(self, host: str, port: int, on_done: Callable[..., None], *_: Any, **__: Any) -> Any:
        """See pika: an address that is not used."""
        return self.call_later(
            0, lambda: on_done([(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))])
        )

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], None]) -> Any:
        """See pika; a Unix domain socket connects at once or not at all."""
        return self.call_later(0, lambda: on_done(self._connect()))

    def _connect(self) -> OSError | None:
        """Connect a socket, which `create_streaming_connection` uses at once."""
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix.setblocking(False)
        try:
            unix.connect(self._path)
        except OSError as error:
            unix.close()
            return error
        self.sockets.append(unix)
        return None

    def create_streaming_connection(
        self, protocol_factory: Callable[[], Any], sock: socket.socket, on_done: Callable[[Any], None], **options: Any
    ) -> Any:
        """See pika."""
        sock.close()
        return super().create_streaming_connection(protocol_factory, self.sockets[-1], on_done, **options)

"""The connection to the broker: pika's AsyncioConnection with fewer and larger reads and writes.

pika writes three buffers for a message and one for an acknowledgement, each with its own `send()`. It reads 4 KiB with
each `recv()` and copies the rest of its buffer after every frame. Socket calls are the largest cost of a call in
Python. So a message is written here at once, with one `send()`. Everything else of the same loop iteration is written
with another `send()`. A read takes up to 64 KiB. The frames of every call go straight to `channel_codec.py`, without
pika's callbacks.
"""

import asyncio
import contextlib
import logging
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import pika
from pika import frame

from crew import broker_url, forks
from crew.amqp.connection import content_header, frames, tls
from crew.amqp.connection.channel_codec import CodecChannel
from crew.amqp.connection.incoming import Incoming
from crew.amqp.connection.liveness import Liveness
from crew.amqp.connection.pika_adapter import PikaConnection
from crew.amqp.errors import LinkError, link_error
from crew.errors import SettingsError
from crew.settings import Tuning

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 10.0  # seconds, for TCP, TLS and the AMQP handshake together
ABORT_TIMEOUT: Final = 1.0  # seconds until an aborted connection has closed its socket: it takes a moment
_MOST_PIECES: Final = 1024  # of one system call: IOV_MAX of Linux
_LARGEST_READ: Final = 1024 * 1024  # bytes, while a large message arrives
_FRAME_HEAD: Final = 7  # bytes: type, channel, size
_AMQP: Final = b"AMQP"  # begins a protocol header, which is not a frame
_TLS_ALERT: Final = 21  # type of the TLS record with which a TLS port answers anything but TLS, RFC 8446 §5.1
_HTTP: Final = b"HTTP/"


class BrokerConnection(PikaConnection):
    """One AMQP connection. The constructor only begins to connect: use `open_connection`.

    Args:
        read_bytes: maximum bytes of one read from the socket.
        Others: see pika.
    """

    _is_aborted = False
    _reads_more = False
    _largest_frame = 2**32 + frames.ENVELOPE  # bytes, until the handshake has agreed on a size

    def __init__(
        self,
        *args: Any,
        custom_ioloop: asyncio.AbstractEventLoop,
        read_bytes: int = Tuning().read_bytes,
        **kwargs: Any,
    ) -> None:
        self._read_bytes = read_bytes
        self._unsent: list[frames.Piece] = []
        self._has_sent = False
        self._is_sending_soon = False
        self._is_protocol_checked = False
        self._stream_error: BaseException | None = None
        self._incoming = Incoming()
        self._loop = custom_ioloop
        self.is_blocked = False  # whether the broker has blocked publishing
        # The reason, once an open connection has closed.
        self.ended: asyncio.Future[LinkError] = custom_ioloop.create_future()
        super().__init__(*args, custom_ioloop=custom_ioloop, **kwargs)
        forks.register(self)
        self.add_on_connection_blocked_callback(lambda *_: self._block(True))
        self.add_on_connection_unblocked_callback(lambda *_: self._block(False))

    @property
    def received_bytes(self) -> int:
        """Bytes received from the broker since the start."""
        return int(self.bytes_received) + len(self._incoming)

    @property
    def is_stalled(self) -> bool:
        """Whether published messages do not reach the broker: it blocks publishing, or they wait for the socket."""
        return self.is_blocked or (self.socket is not None and bool(self.unwritten))

    @property
    def is_tls(self) -> bool:
        """Whether the connection uses TLS."""
        return self.params.ssl_options is not None

    def watch(self) -> None:
        """From now on, close the connection where the broker is silent for too long or sends too large a frame."""
        if self.params.frame_max:
            self._largest_frame = self.params.frame_max
        liveness = Liveness(lambda: self.received_bytes, heartbeat=self.params.heartbeat, on_timeout=self.abort)
        self.ended.add_done_callback(lambda _: liveness.stop())

    def abort(self, error: LinkError) -> None:
        """Close the socket at once, also while connecting, without connection.close: the broker may not answer."""
        if not self.is_closed:
            self.terminate(error)

    def drop(self) -> None:
        """Only close the sockets: send nothing to the broker and call nothing on the event loop.

        For a process or an event loop that cannot use the connection. A copy of the socket in another process stays
        usable.
        """
        for sock in (*self.io_services.sockets, self.socket):
            if sock is not None:
                sock.close()

    def on_forked(self) -> None:
        """Close the sockets in a forked child: the connection belongs to the parent."""
        self.drop()

    def closing_error(self, error: BaseException | None) -> LinkError:
        """Return why the connection has closed: the error of the stream is more exact than that of pika."""
        if isinstance(self._stream_error, LinkError) or (
            isinstance(self._stream_error, ssl.SSLError) and not self._is_protocol_checked
        ):
            return link_error(self._stream_error)
        if self.is_tls and self._stream_error is not None and not self._is_protocol_checked:
            return LinkError(
                "the broker closed the connection after the TLS handshake: "
                "it may require a client certificate (certfile=, keyfile=)"
            )
        return link_error(error)

    @property
    def _name(self) -> str:
        return str(self.params.client_properties["connection_name"])

    def _block(self, blocked: bool) -> None:
        self.is_blocked = blocked
        logger.warning("publishing %s by the broker connection=%r", "blocked" if blocked else "unblocked", self._name)

    # --- out --------------------------------------------------------------------------------------------------------

    def send_message(self, pieces: Sequence[frames.Piece]) -> None:
        """Send at once, as a caller waits for it; the rest of this loop iteration is sent together."""
        self._unsent += pieces
        if self._has_sent:
            self._send_soon()
        else:
            self._has_sent = True
            self._send()
            self._loop.call_soon(self._on_iteration)

    def send_large_message(self, pieces: Sequence[frames.Piece]) -> None:
        """Send at once, after what waits, without copying the body: the pieces wait for the socket as they are."""
        if self.is_tls:  # it writes records of its own
            self.send_message(pieces)
            return
        unsent, self._unsent = [*self._unsent, *pieces], []
        if self.socket is None:
            return
        self.bytes_sent += sum(map(len, unsent))
        sent = 0
        if not self.unwritten:
            with contextlib.suppress(OSError):
                sent = self.socket.sendmsg(unsent[:_MOST_PIECES])
        for piece in unsent:
            if sent < len(piece):
                self.write(piece[sent:])
            sent = max(0, sent - len(piece))

    def send_soon(self, piece: bytes) -> None:
        """Send together with everything else of this loop iteration."""
        self._unsent.append(piece)
        self._send_soon()

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send frames that pika has encoded, as `send_soon`."""
        self._unsent += frames
        self.frames_sent += len(frames)
        self._send_soon()

    def _send_soon(self) -> None:
        if not self._is_sending_soon:
            self._is_sending_soon = True
            self._loop.call_soon(self._send_rest)

    def _send_rest(self) -> None:
        self._is_sending_soon = False
        if self._unsent:
            self._send()

    def _on_iteration(self) -> None:
        self._has_sent = False

    def _send(self) -> None:
        """Write to the socket directly: waiting until it is writable costs three system calls."""
        data, self._unsent = b"".join(self._unsent), []
        sock = self.socket
        if sock is None:
            return
        self.bytes_sent += len(data)
        if not self.unwritten:
            # On an error the socket is full or broken: the transport handles both. TLS accepts all bytes or none, and
            # requires the same bytes at the next attempt: they are the first that the transport writes.
            with contextlib.suppress(OSError):
                data = data[sock.send(data) :]
        if data:
            self.write(data)

    # --- in ---------------------------------------------------------------------------------------------------------

    def read_sizes(self) -> tuple[int, int]:
        """One read for each loop iteration: a second one would mostly find nothing.

        With TLS a read returns one record of at most 16 KiB, and a second read is always needed: polling does not show
        bytes that OpenSSL has decrypted.
        """
        return self._read_bytes, self._read_bytes if self.is_tls else 1

    def on_stream_lost(self, error: BaseException | None) -> None:
        """Keep the error: it is more exact than that of pika."""
        self._stream_error = error

    def on_bytes(self, data: bytes) -> None:
        """Process every complete frame that has arrived, and keep the rest."""
        if not self._is_protocol_checked:
            check_protocol(data)
            self._is_protocol_checked = True
        buffer = self._incoming.add(data)
        start, total, missing = 0, len(buffer), 0
        while start + _FRAME_HEAD <= total:
            if end := self._dispatch_call_frame(buffer, start):
                start = end
                continue
            if missing := frames.missing_of_delivery(buffer, start, self._largest_frame - frames.ENVELOPE):
                break
            end = start + _frame_size(buffer, start)
            if end - start > self._largest_frame:
                self.abort_on_protocol_error(
                    f"a frame has {end - start} bytes, more than the agreed {self._largest_frame}"
                )
            elif end <= total:
                self._process(buffer[start:end])
            if end > total or self._is_aborted:
                break
            start = end
        if buffer:
            self._incoming.keep(b"" if self._is_aborted else buffer[start:], missing)
        self.bytes_received += start
        if missing or self._reads_more:
            self._reads_more = bool(missing)
            self.read_at_most(min(max(missing, self._read_bytes), _LARGEST_READ))

    def _process(self, data: bytes) -> None:
        """Process one frame."""
        if data[-1] != frames.END and not data.startswith(_AMQP):
            self.abort_on_protocol_error(f"a frame ends with {data[-1]:#04x} instead of 0xce")
            return
        try:
            value = _decode_frame(data)
        except Exception as error:  # pika raises errors of many types
            self.abort_on_protocol_error(f"a frame cannot be decoded ({type(error).__name__}: {error})")
            return
        if value.frame_type in (frames.HEADER, frames.BODY) and value.channel_number == 0:
            self.abort_on_protocol_error("a frame of a message is for channel 0, which carries no messages")
        else:
            self.process_frame(value)

    def abort_on_protocol_error(self, problem: str) -> None:
        """Close the connection: the broker, or a proxy, broke the protocol, so no further byte can be trusted.

        AMQP 0-9-1 §4.2.3 requires to close the connection without sending anything more.
        """
        self._is_aborted = True
        self.abort(LinkError(f"protocol error from the broker, connection closed: {problem}"))

    def deliver_to_channel(self, value: Any) -> None:
        """Pass a frame of a message to its channel, which has to be open."""
        channel = self.channels.get(value.channel_number)
        if channel is None:
            self.abort_on_protocol_error(f"a frame is for channel {value.channel_number}, which is not open")
        else:
            channel.on_content_frame(value)

    def _dispatch_call_frame(self, buffer: bytes, start: int) -> int:
        """Pass a delivery or confirm straight to its channel; return its end, or 0 where pika has to handle it."""
        delivered = frames.delivered_at(buffer, start)
        if delivered is not None:
            channel = self.channels.get(delivered.channel)
            return delivered.end if channel is not None and channel.on_delivered(delivered) else 0
        acked = frames.acked_at(buffer, start)
        if acked is None or acked.channel not in self.channels:
            return 0
        self.channels[acked.channel].on_confirm(acked.delivery_tag, acked.multiple, True)
        return acked.end

    def new_channel(self, number: int, on_open: Callable[[Any], Any] | None) -> CodecChannel:
        """Make a channel that encodes and decodes by itself."""
        return CodecChannel(self, number, on_open)


def check_protocol(data: bytes) -> None:
    """Raise LinkError where the first bytes from the peer do not come from a broker that speaks AMQP 0-9-1."""
    if data[0] == frames.METHOD:  # a broker begins with a method frame, AMQP 0-9-1 §4.2.3
        return
    if data[0] == _TLS_ALERT:
        raise LinkError("the port speaks TLS: write amqps:// instead of amqp://, or use the port without TLS (5672)")
    if _HTTP.startswith(data[:5]):
        raise LinkError("the port speaks HTTP: use the broker's AMQP port (5672, or 5671 with TLS)")
    if _AMQP.startswith(data[:4]):
        raise LinkError(f"the broker speaks AMQP {_version(data)}, but crew speaks AMQP 0-9-1")
    raise LinkError("the port does not speak AMQP: use the broker's AMQP port (5672, or 5671 with TLS)")


def _version(data: bytes) -> str:
    """Version in a protocol header: "AMQP", protocol, major, minor, revision (AMQP 0-9-1 §4.2.2)."""
    return "-".join(map(str, data[5:8])) or "of another version"


def _decode_frame(data: bytes) -> Any:
    """Decode one frame with pika, but its message properties with crew's own decoder."""
    if data[0] == frames.HEADER:
        (channel,) = struct.unpack_from(">H", data, 1)
        (body_size,) = struct.unpack_from(">Q", data, _FRAME_HEAD + 4)
        return frame.Header(channel, body_size, content_header.decode(data, _FRAME_HEAD))
    return frame.decode_frame(data)[1]


def _frame_size(buffer: bytes, start: int) -> int:
    """Return the size of the frame at `start` in bytes, with its head and end."""
    if buffer.startswith(_AMQP, start):
        return 8  # a protocol header: the broker speaks another version of AMQP
    (size,) = struct.unpack_from(">L", buffer, start + 3)
    return int(size) + frames.ENVELOPE


async def open_connection(
    url: str, *, name: str, heartbeat: int, read_bytes: int = Tuning().read_bytes
) -> BrokerConnection:
    """Connect to the broker at `url`.

    Args:
        name: name of this connection in the broker's lists.
        heartbeat: seconds.
        read_bytes: maximum bytes of one read from the socket.

    Raises:
        LinkError: it failed, and a retry may help; LinkRefused: a retry does not help.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()

    def on_open(_: object) -> None:
        if not opened.done():
            opened.set_result(None)

    def on_open_error(failed: BrokerConnection, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(failed.closing_error(error))

    def on_close(closed: BrokerConnection, error: BaseException) -> None:
        closed.ended.set_result(link_error(error))

    try:
        parameters = _parameters(url, name, heartbeat)
        socket_path = broker_url.parse(url).socket
    except SettingsError as error:  # it was valid when the link was made: a missing file may come back
        raise LinkError(str(error)) from None
    connection = BrokerConnection(
        parameters,
        on_open,
        on_open_error,
        on_close,
        custom_ioloop=loop,
        read_bytes=read_bytes,
        socket_path=socket_path,
    )
    try:
        async with asyncio.timeout(parameters.socket_timeout):
            await asyncio.shield(opened)
    except TimeoutError:
        timeout = LinkError(f"connection timeout: the broker did not answer within {parameters.socket_timeout:g} s")
        await _abort(connection, opened, timeout)
        raise timeout from None
    except asyncio.CancelledError:
        await _abort(connection, opened, LinkError("the attempt was canceled"))
        raise
    connection.watch()
    return connection


async def _abort(connection: BrokerConnection, opened: "asyncio.Future[None]", error: LinkError) -> None:
    """Abort an attempt to connect, and wait until its socket is closed."""
    opened.add_done_callback(lambda ended: ended.exception())  # retrieved: else asyncio logs it
    connection.abort(error)
    await asyncio.wait(
        [connection.ended if opened.done() and not opened.exception() else opened], timeout=ABORT_TIMEOUT
    )


async def close_connection(connection: BrokerConnection, timeout: float = Tuning().close_timeout) -> None:
    """Close `connection` and wait: first with connection.close; if unanswered for `timeout` seconds, its socket."""
    if not (connection.is_closed or connection.is_closing):
        connection.close()
    if not connection.is_closed:
        await asyncio.wait([connection.ended], timeout=timeout)
    if not connection.is_closed:
        connection.abort(LinkError(f"the broker did not answer connection.close within {timeout:g} s"))
        await asyncio.wait([connection.ended], timeout=ABORT_TIMEOUT)


class ClosingConnections:
    """Closes connections in the background: a slow close does not delay the next connection.

    Args:
        timeout: seconds for the broker to answer connection.close.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<ClosingConnections: {len(self._tasks)}>"

    def close(self, connection: BrokerConnection | None) -> None:
        """Begin to close `connection`; do nothing for None."""
        if connection is not None:
            task = asyncio.get_running_loop().create_task(close_connection(connection, self._timeout))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Wait until all of them are closed: a few seconds at most."""
        await asyncio.gather(*self._tasks)


def _parameters(url: str, name: str, heartbeat: int) -> pika.ConnectionParameters:
    broker = broker_url.parse(url)
    timeout = broker.connection_timeout or CONNECT_TIMEOUT
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=pika.PlainCredentials(broker.username, broker.password),
        ssl_options=pika.SSLOptions(tls.context(broker), tls.server_name(broker)) if broker.is_tls else None,
        heartbeat=heartbeat,
        connection_attempts=1,  # the link retries, with its own delays
        socket_timeout=timeout,
        stack_timeout=2 * timeout,  # never reached: the attempt is aborted long before
        client_properties={"connection_name": name, "product": "crew"},
    )

"""The connection itself: pika's AsyncioConnection, reading and writing in larger pieces.

pika writes three buffers a message and one an acknowledgement, each with a `send()` of its own, reads 4 KiB a `recv()`,
and copies what is left of its buffer after every frame. Socket calls are the largest cost of a call in Python, so here
a message leaves at once, in one write, and all that follows in the same loop iteration in another; a read takes up to
64 KiB; and what every call needs goes past pika's callbacks to `wire_channel.py`.
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
from pika.adapters.asyncio_connection import AsyncioConnection

from crew import broker_url, forks
from crew.amqp import tls
from crew.amqp.connection import content_header, frames, protocol_check
from crew.amqp.connection.channel_codec import WireChannel
from crew.amqp.connection.io_services import IOServices
from crew.amqp.connection.liveness import Silence
from crew.amqp.errors import LinkFault, fault_of
from crew.errors import SettingsError

logger = logging.getLogger(__name__)

READ_BYTES: Final = 64 * 1024
CONNECT_TIMEOUT: Final = 10.0  # seconds, for TCP, TLS and the AMQP handshake together
GIVE_UP_TIMEOUT: Final = 1.0  # seconds until a wire that is given up has closed its socket: a moment
CLOSE_TIMEOUT: Final = 2.0  # seconds for the broker to say goodbye
_FRAME_HEAD: Final = 7  # bytes: type, channel, size
_AMQP: Final = b"AMQP"  # begins a protocol header, which is no frame


class Wire(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """One AMQP connection. Its constructor only begins to connect: use `open_wire`."""

    _is_broken_off = False
    _largest_frame = 2**32 + frames.ENVELOPE  # bytes, until a size is agreed on

    def __init__(self, *args: Any, custom_ioloop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        self._unsent: list[bytes] = []
        self._has_sent = False
        self._is_sending_soon = False
        self._is_greeted = False
        self._lost_by: BaseException | None = None
        self._frame_buffer: bytes
        self._loop = custom_ioloop
        self.is_blocked = False  # whether the broker has blocked publishing
        self.ended: asyncio.Future[LinkFault] = custom_ioloop.create_future()  # why, once an open wire has closed
        self._services = IOServices(custom_ioloop)
        super().__init__(*args, custom_ioloop=self._services, **kwargs)
        forks.register(self)
        self.add_on_connection_blocked_callback(lambda *_: self._block(True))
        self.add_on_connection_unblocked_callback(lambda *_: self._block(False))

    @property
    def largest_body(self) -> int:
        """Bytes of a message that fit into one frame, as agreed with the broker."""
        return int(self._body_max_length)

    @property
    def heard(self) -> int:
        """Bytes that have ever come from the broker."""
        return int(self.bytes_received) + len(self._frame_buffer)

    @property
    def is_held_up(self) -> bool:
        """Whether the broker does not get what is published: it has blocked that, or it is still to be written."""
        return self.is_blocked or bool(self._transport is not None and self._transport._tx_buffers)

    @property
    def is_tls(self) -> bool:
        """Whether what travels is encrypted."""
        return self.params.ssl_options is not None

    def watch(self) -> None:
        """Give up, from now on, where the broker falls silent, or sends a frame that is too large."""
        if self.params.frame_max:
            self._largest_frame = self.params.frame_max
        silence = Silence(lambda: self.heard, heartbeat=self.params.heartbeat, on_silent=self.give_up)
        self.ended.add_done_callback(lambda _: silence.stop())

    def give_up(self, fault: LinkFault) -> None:
        """End at once, in the midst of connecting too, without a word to the broker, who may not listen."""
        if not self.is_closed:
            self._terminate_stream(fault)

    def drop(self) -> None:
        """Close its sockets, and do nothing else: neither the broker nor the event loop hears of it.

        For a process or a loop that cannot use it. A copy of the socket in another process goes on.
        """
        for sock in (*self._services.sockets, getattr(self._transport, "_sock", None)):
            if sock is not None:
                sock.close()

    def on_forked(self) -> None:
        """This is a forked child: the connection is its parent's."""
        self.drop()

    def fault_of(self, error: BaseException | None) -> LinkFault:
        """Why it has ended: what ended the stream says more than what pika makes of it."""
        if isinstance(self._lost_by, LinkFault) or (isinstance(self._lost_by, ssl.SSLError) and not self._is_greeted):
            return fault_of(self._lost_by)
        if self.is_tls and self._lost_by is not None and not self._is_greeted:
            return LinkFault(
                "the broker closed the connection after the TLS handshake: "
                "it may want a client certificate (certfile=, keyfile=)"
            )
        return fault_of(error)

    @property
    def _name(self) -> str:
        return str(self.params.client_properties["connection_name"])

    def _block(self, blocked: bool) -> None:
        self.is_blocked = blocked
        logger.warning("%s: the broker has %s publishing", self._name, "blocked" if blocked else "unblocked")

    # --- out --------------------------------------------------------------------------------------------------------

    def send_message(self, pieces: Sequence[bytes]) -> None:
        """Send at once, as somebody waits for it; all that follows in the same loop iteration leaves together."""
        self._unsent += pieces
        if self._has_sent:
            self._send_soon()
        else:
            self._has_sent = True
            self._send()
            self._loop.call_soon(self._on_iteration)

    def send_soon(self, piece: bytes) -> None:
        """Send with whatever else this loop iteration sends."""
        self._unsent.append(piece)
        self._send_soon()

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """What pika sends."""
        self._unsent += marshaled_frames
        self.frames_sent += len(marshaled_frames)
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
        """Write to the socket, where it takes all of it: to wait until it is writable costs three system calls."""
        data, self._unsent = b"".join(self._unsent), []
        transport = self._transport
        if transport is None:
            return
        self.bytes_sent += len(data)
        if not transport._tx_buffers:
            # It cannot take more now, or it is broken: the transport finds out. TLS has taken all or nothing then, and
            # insists on the same bytes the next time, which are the first that the transport writes.
            with contextlib.suppress(OSError):
                data = data[transport._sock.send(data) :]
        if data:
            transport.write(data)

    # --- in ---------------------------------------------------------------------------------------------------------

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_BYTES
        # One read a turn of the loop: a second would mostly find nothing. With TLS a read is one record of 16 KiB at
        # most, and the second comes in any case, as no poll tells of what OpenSSL has decrypted already.
        transport._MAX_CONSUME_BYTES = READ_BYTES if self.is_tls else 1
        super()._proto_connection_made(transport)

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        self._lost_by = error
        super()._proto_connection_lost(error)

    def _on_data_available(self, data_in: bytes) -> None:
        """Process every whole frame that has arrived, and keep the rest."""
        if not self._is_greeted:
            protocol_check.check(data_in)
            self._is_greeted = True
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        start, total = 0, len(buffer)
        while start + _FRAME_HEAD <= total:
            if end := self._bring(buffer, start):
                start = end
                continue
            end = start + _frame_size(buffer, start)
            if end - start > self._largest_frame:
                self.break_off(f"a frame has {end - start} bytes, and {self._largest_frame} were agreed on")
            elif end <= total:
                self._process(buffer[start:end])
            if end > total or self._is_broken_off:
                break
            start = end
        self._frame_buffer = b"" if self._is_broken_off else buffer[start:]
        self.bytes_received += start

    def _process(self, data: bytes) -> None:
        """Process one frame."""
        if data[-1] != frames.END and not data.startswith(_AMQP):
            self.break_off(f"a frame ends with {data[-1]:#04x} in place of 0xce")
            return
        try:
            value = _frame(data)
        except Exception as error:  # pika raises whatever it comes across
            self.break_off(f"a frame cannot be decoded ({type(error).__name__}: {error})")
            return
        if value.frame_type in (frames.HEADER, frames.BODY) and value.channel_number == 0:
            self.break_off("a frame of a message is for channel 0, which has none")
        else:
            self._process_frame(value)

    def break_off(self, problem: str) -> None:
        """The broker, or something between, breaks the protocol: no byte that follows has a meaning.

        AMQP 0-9-1 §4.2.3 wants the connection to be closed without sending anything more.
        """
        self._is_broken_off = True
        self.give_up(LinkFault(f"the connection was closed, as the broker broke the protocol: {problem}"))

    def _deliver_frame_to_channel(self, value: Any) -> None:
        """What pika hands to a channel."""
        channel = self._channels.get(value.channel_number)
        if channel is None:
            self.break_off(f"a frame is for channel {value.channel_number}, which is not open")
        else:
            channel._handle_content_frame(value)

    def _bring(self, buffer: bytes, start: int) -> int:
        """Bring a delivery or a confirm straight to its channel: where it ends, or 0 where pika has to look at it."""
        delivered = frames.delivered_at(buffer, start)
        if delivered is not None:
            channel = self._channels.get(delivered.channel)
            return delivered.end if channel is not None and channel.on_delivered(delivered) else 0
        acked = frames.acked_at(buffer, start)
        if acked is None or acked.channel not in self._channels:
            return 0
        self._channels[acked.channel].on_acked(acked)
        return acked.end

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], Any] | None) -> WireChannel:
        return WireChannel(self, channel_number, on_open_callback)


def _frame(data: bytes) -> Any:
    """As pika has it, but for message properties, which are ours."""
    if data[0] == frames.HEADER:
        (channel,) = struct.unpack_from(">H", data, 1)
        (body_size,) = struct.unpack_from(">Q", data, _FRAME_HEAD + 4)
        return frame.Header(channel, body_size, content_header.decode(data, _FRAME_HEAD))
    return frame.decode_frame(data)[1]


def _frame_size(buffer: bytes, start: int) -> int:
    """Bytes of the frame at `start`, both ends included."""
    if buffer.startswith(_AMQP, start):
        return 8  # a protocol header: the broker speaks another version
    (size,) = struct.unpack_from(">L", buffer, start + 3)
    return int(size) + frames.ENVELOPE


async def open_wire(url: str, *, name: str, heartbeat: int) -> Wire:
    """Connect to the broker at `url`.

    Args:
        name: what the broker's lists call this connection.
        heartbeat: seconds.

    Raises:
        LinkFault: it did not work; LinkRefused: and will not.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()

    def on_open(_: object) -> None:
        if not opened.done():
            opened.set_result(None)

    def on_open_error(failed: Wire, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(failed.fault_of(error))

    def on_close(closed: Wire, error: BaseException) -> None:
        closed.ended.set_result(fault_of(error))

    try:
        parameters = _parameters(url, name, heartbeat)
    except SettingsError as error:  # it was right when the link was made: a file may come back
        raise LinkFault(str(error)) from None
    wire = Wire(parameters, on_open, on_open_error, on_close, custom_ioloop=loop)
    try:
        async with asyncio.timeout(parameters.socket_timeout):
            await asyncio.shield(opened)
    except TimeoutError:
        fault = LinkFault("the broker did not answer in time")
        await _give_up(wire, opened, fault)
        raise fault from None
    except asyncio.CancelledError:
        await _give_up(wire, opened, LinkFault("nobody needs it any longer"))
        raise
    wire.watch()
    return wire


async def _give_up(wire: Wire, opened: "asyncio.Future[None]", fault: LinkFault) -> None:
    """End an attempt to connect, and wait until its socket is closed."""
    opened.add_done_callback(lambda ended: ended.exception())  # nobody asks any longer
    wire.give_up(fault)
    await asyncio.wait([wire.ended if opened.done() and not opened.exception() else opened], timeout=GIVE_UP_TIMEOUT)


async def hang_up(wire: Wire) -> None:
    """Close, and wait until it is closed: with a word to the broker, unless he does not answer it."""
    if not (wire.is_closed or wire.is_closing):
        wire.close()
    if not wire.is_closed:
        await asyncio.wait([wire.ended], timeout=CLOSE_TIMEOUT)
    if not wire.is_closed:
        wire.give_up(LinkFault("the broker did not say goodbye"))
        await asyncio.wait([wire.ended], timeout=GIVE_UP_TIMEOUT)


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
        connection_attempts=1,  # the link tries again, with its own delays
        socket_timeout=timeout,
        stack_timeout=2 * timeout,  # it is given up long before
        client_properties={"connection_name": name, "product": "crew"},
    )

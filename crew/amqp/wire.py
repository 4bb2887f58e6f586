"""The connection itself: pika's AsyncioConnection, reading and writing in larger pieces.

pika writes three buffers a message and one an acknowledgement, each with a `send()` of its own, reads 4 KiB a `recv()`,
and copies what is left of its buffer after every frame. Socket calls are the largest cost of a call in Python, so here
all frames of one loop iteration leave in one write, and a read takes up to 64 KiB.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import pika
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection

from crew.amqp.fault import LinkFault, fault_of
from crew.protocol.properties import UNREADABLE
from crew.settings import redacted

READ_BYTES: Final = 64 * 1024
CONNECT_TIMEOUT: Final = 10.0  # seconds, for TCP, TLS and the AMQP handshake together
GIVE_UP_TIMEOUT: Final = 1.0  # seconds to wait for the end of an attempt that nobody needs any longer
BLOCKED_TIMEOUT: Final = 30.0  # seconds that a broker may block publishing before the connection is given up
_FRAME_HEAD: Final = 7  # bytes: type, channel, size
_FRAME_END: Final = 1  # byte


class Wire(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """One AMQP connection. Its constructor only begins to connect: use `open_wire`."""

    def __init__(self, *args: Any, custom_ioloop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        self._unsent: list[bytes] = []
        self._frame_buffer: bytes
        self._loop = custom_ioloop
        self.ended: asyncio.Future[LinkFault] = custom_ioloop.create_future()  # why, once an open wire has closed
        super().__init__(*args, custom_ioloop=custom_ioloop, **kwargs)

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """Keep the frames until this loop iteration is over."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent += marshaled_frames
        self.frames_sent += len(marshaled_frames)

    def _send(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._transport is not None:
            self.bytes_sent += len(data)
            self._transport.write(data)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_BYTES
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        """Process every whole frame that has arrived, and keep the rest."""
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        start, total = 0, len(buffer)
        while start + _FRAME_HEAD <= total:
            end = start + _frame_size(buffer, start)
            if end > total:
                break
            self._process_frame(_decoded(buffer[start:end]))
            start = end
        self._frame_buffer = buffer[start:]
        self.bytes_received += start


def _decoded(data: bytes) -> Any:
    """The frame in `data`.

    Properties that pika cannot decode become an unreadable message instead of a lost connection: the broker would hand
    it out again on every new one.
    """
    try:
        return frame.decode_frame(data)[1]
    except Exception as error:
        if data[0] != spec.FRAME_HEADER:
            raise
        channel, (body_size,) = struct.unpack_from(">H", data, 1)[0], struct.unpack_from(">Q", data, _FRAME_HEAD + 4)
        return frame.Header(channel, body_size, spec.BasicProperties(headers={UNREADABLE: str(error)}))


def _frame_size(buffer: bytes, start: int) -> int:
    """Bytes of the frame at `start`, both ends included."""
    if buffer.startswith(b"AMQP", start):
        return 8  # a protocol header: the broker speaks another version
    (size,) = struct.unpack_from(">L", buffer, start + 3)
    return _FRAME_HEAD + int(size) + _FRAME_END


async def open_wire(url: str, *, name: str, heartbeat: int, on_closed: Callable[[LinkFault], None]) -> Wire:
    """Connect to the broker at `url`.

    Args:
        name: what the broker's lists call this connection.
        heartbeat: seconds.
        on_closed: told once why the opened connection has ended.

    Raises:
        LinkFault: it did not work; LinkRefused: and will not.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()

    def on_open(_: object) -> None:
        if not opened.done():
            opened.set_result(None)

    def on_open_error(_: object, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(fault_of(error))

    def on_close(closed: Wire, error: BaseException) -> None:
        fault = fault_of(error)
        closed.ended.set_result(fault)
        on_closed(fault)

    wire = Wire(_parameters(url, name, heartbeat), on_open, on_open_error, on_close, custom_ioloop=loop)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.shield(opened)
    except TimeoutError:
        await _give_up(wire, opened)
        raise LinkFault("the broker did not answer in time") from None
    except asyncio.CancelledError:
        await _give_up(wire, opened)
        raise
    return wire


async def _give_up(wire: Wire, opened: "asyncio.Future[None]") -> None:
    """End an attempt to connect: let it come to its own end, as pika's `close` in mid-handshake fails on itself."""
    opened.add_done_callback(lambda ended: None if ended.exception() else close_wire(wire))
    await asyncio.wait([opened], timeout=GIVE_UP_TIMEOUT)
    if wire.is_open or wire.is_closing:
        await asyncio.wait([wire.ended], timeout=GIVE_UP_TIMEOUT)


def close_wire(wire: Wire) -> bool:
    """Begin to close; whether there was anything to close."""
    if wire.is_closed or wire.is_closing:
        return False
    wire.close()
    return True


def _parameters(url: str, name: str, heartbeat: int) -> pika.URLParameters:
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        raise LinkFault(f"{redacted((url,))} cannot be used: {error}") from None
    parameters.heartbeat = heartbeat
    parameters.blocked_connection_timeout = BLOCKED_TIMEOUT
    parameters.connection_attempts = 1  # the link tries again, with its own delays
    parameters.socket_timeout = CONNECT_TIMEOUT
    parameters.stack_timeout = CONNECT_TIMEOUT
    parameters.client_properties = {"connection_name": name, "product": "crew"}
    return parameters

"""Encodes and decodes the frames of every call: Basic.Publish, Basic.Deliver, Basic.Ack.

pika makes about twenty objects for a message and looks up callbacks for each of its frames: this takes a third of the
CPU time of a call, as measured. pika still does what is rare: the handshake, declarations, consumers, returns, and
deliveries between whose frames others arrive. See AMQP 0-9-1 §4.2,
https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf.

The body of a large message is sent from where it is, and is copied once when its frames have arrived: each copy of a
megabyte takes 0.3 to 1 ms, most of it for memory pages.
"""

import functools
import struct
from typing import Final

import msgspec

from crew.amqp.connection import content_header
from crew.protocol.properties import Properties

METHOD: Final = 1  # frame types
HEADER: Final = 2
BODY: Final = 3
FRAME_END: Final = b"\xce"
END: Final = FRAME_END[0]
ENVELOPE: Final = 8  # bytes of a frame without its payload: head and end

_PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"  # class 60, method 40, and the reserved ticket
_DELIVER: Final = b"\x00\x3c\x00\x3c"
_ACK: Final = b"\x00\x3c\x00\x50"
_ACK_SIZE: Final = 21  # bytes of an ack frame
LEAST_AWAITED: Final = 32 * 1024  # bytes; pika puts smaller messages together that do not arrive in one read
MOST_AWAITED: Final = 64 * 1024 * 1024  # bytes of a message whose frames are kept until all have arrived

_head: Final = struct.Struct(">BHI")  # type, channel, size of the payload
_u32: Final = struct.Struct(">I")
_u64: Final = struct.Struct(">Q")


Piece = bytes | memoryview


class Delivered(msgspec.Struct, gc=False):
    """A Basic.Deliver with its properties and body; `end` is where the next frame begins."""

    channel: int
    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    routing_key: str
    properties: Properties
    body: bytes
    end: int


class Acked(msgspec.Struct, gc=False):
    """A Basic.Ack of the broker; `end` is where the next frame begins."""

    channel: int
    delivery_tag: int
    multiple: bool
    end: int


# --- out ------------------------------------------------------------------------------------------------------------


def publish(
    channel: int, exchange: str, key: str, properties: Properties, body: bytes, *, mandatory: bool, largest: int
) -> list[Piece]:
    """Return the frames of a message, with at most `largest` body bytes in each.

    Raises:
        ValueError: a name or a property does not fit into its field, or the properties do not fit into one frame. The
            broker would close the connection (501) because of a larger frame.
    """
    head = content_header.encode(properties, len(body))
    if len(head) > largest:
        raise ValueError(f"its properties and headers have {len(head)} bytes, more than a frame can carry ({largest})")
    pieces: list[Piece] = [
        _method(channel, exchange, key, mandatory),
        _head.pack(HEADER, channel, len(head)),
        head,
        FRAME_END,
    ]
    if len(body) > largest:
        whole = memoryview(body)
        for start in range(0, len(body), largest):
            piece = whole[start : start + largest]
            pieces += (_head.pack(BODY, channel, len(piece)), piece, FRAME_END)
    elif body:
        pieces += (_head.pack(BODY, channel, len(body)), body, FRAME_END)
    return pieces


def ack(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    """Return the frame of an acknowledgement."""
    return _head.pack(METHOD, channel, 13) + _ACK + _u64.pack(delivery_tag) + bytes((multiple,)) + FRAME_END


@functools.lru_cache(1024)  # a client calls the same tasks again and again, and a worker replies to the same clients
def _method(channel: int, exchange: str, key: str, mandatory: bool) -> bytes:
    payload = _PUBLISH + content_header.short(exchange) + content_header.short(key) + bytes((mandatory,))
    return _head.pack(METHOD, channel, len(payload)) + payload + FRAME_END


# --- in -------------------------------------------------------------------------------------------------------------


def delivered_at(buffer: bytes, start: int) -> Delivered | None:
    """Return the delivery that begins at `start`, or None.

    None where it is another frame, is not complete, or breaks the protocol. Then `connection.py` waits for the rest
    (`missing_of_delivery`), or handles each frame on its own.
    """
    if buffer[start] != METHOD or not buffer.startswith(_DELIVER, start + 7):
        return None
    end = len(buffer)
    _, channel, size = _head.unpack_from(buffer, start)
    head = start + size + ENVELOPE
    if head + 7 > end:
        return None
    kind, of, size = _head.unpack_from(buffer, head)
    body = head + size + ENVELOPE
    if body > end or kind != HEADER or of != channel or buffer[head - 1] != END or buffer[body - 1] != END:
        return None
    (body_size,) = _u64.unpack_from(buffer, head + 11)
    after, content = body, b""
    if body_size:
        after += body_size + ENVELOPE
        if after > end:
            return None
        if _head.unpack_from(buffer, body) == (BODY, channel, body_size) and buffer[after - 1] == END:
            content = buffer[body + 7 : after - 1]
        elif (frames_end := _end_of_body(buffer, body, channel, body_size)) <= 0:
            return None
        else:
            after, content = frames_end, _content(buffer, body, frames_end)
    consumer_tag, at = content_header.short_at(buffer, start + 11)
    (delivery_tag,) = _u64.unpack_from(buffer, at)
    redelivered = bool(buffer[at + 8] & 1)
    at += 9
    routing_key, _ = content_header.short_at(buffer, at + 1 + buffer[at])
    properties = content_header.decode(buffer, head + 7)
    return Delivered(channel, consumer_tag, delivery_tag, redelivered, routing_key, properties, content, after)


def missing_of_delivery(buffer: bytes, start: int, largest: int) -> int:
    """Return how many bytes the delivery that begins at `start` lacks at least.

    0 where it is another frame, is complete, breaks the protocol, or is not worth waiting for: see `LEAST_AWAITED`.

    Args:
        largest: body bytes in one frame, as agreed with the broker.
    """
    end = len(buffer)
    if buffer[start] != METHOD or not buffer.startswith(_DELIVER, start + 7):
        return 0
    _, channel, size = _head.unpack_from(buffer, start)
    head = start + size + ENVELOPE
    if head + 7 > end or buffer[head - 1] != END:
        return 0
    kind, of, size = _head.unpack_from(buffer, head)
    body = head + size + ENVELOPE
    if kind != HEADER or of != channel or body > end or buffer[body - 1] != END:
        return 0
    (body_size,) = _u64.unpack_from(buffer, head + 11)
    if not LEAST_AWAITED <= body_size <= MOST_AWAITED:
        return 0
    return max(0, -_end_of_body(buffer, body, channel, body_size, largest))


def _end_of_body(buffer: bytes, at: int, channel: int, left: int, largest: int = MOST_AWAITED) -> int:
    """Return the end of the body frames from `at` with `left` bytes, or minus the bytes that are missing at least.

    0 where another frame is among them.
    """
    end = len(buffer)
    while left and at + 7 <= end:
        kind, of, size = _head.unpack_from(buffer, at)
        at += size + ENVELOPE
        if kind != BODY or of != channel or not 0 < size <= min(left, largest) or (at <= end and buffer[at - 1] != END):
            return 0
        left -= size
    missing = at + left + -(-left // largest) * ENVELOPE - end
    return -missing if missing > 0 else at


def _content(buffer: bytes, at: int, end: int) -> bytes:
    """Return the body in the frames from `at` to `end`."""
    whole, pieces = memoryview(buffer), []
    while at < end:
        (size,) = _u32.unpack_from(buffer, at + 3)
        pieces.append(whole[at + 7 : at + 7 + size])
        at += size + ENVELOPE
    return b"".join(pieces)


def acked_at(buffer: bytes, start: int) -> Acked | None:
    """Return the acknowledgement that begins at `start`, or None."""
    end = start + _ACK_SIZE
    if buffer[start] != METHOD or not buffer.startswith(_ACK, start + 7) or end > len(buffer) or buffer[end - 1] != END:
        return None
    _, channel, _ = _head.unpack_from(buffer, start)
    (delivery_tag,) = _u64.unpack_from(buffer, start + 11)
    return Acked(channel, delivery_tag, bool(buffer[start + 19] & 1), end)

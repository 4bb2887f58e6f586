"""Frames that a connection receives and sends, in pieces of any size."""

import asyncio
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import ConnectionParameters, frame, spec
from pika.callback import CallbackManager

from crew.amqp.connection import content_header
from crew.amqp.connection.channel_codec import CodecChannel
from crew.amqp.connection.connection import BrokerConnection, check_protocol, open_connection
from crew.amqp.connection.incoming import Incoming
from crew.amqp.errors import LinkError, LinkRefused


class Socket:
    """Accepts a number of bytes, then none."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.sent = b""

    def send(self, data: bytes) -> int:
        if not self.takes:
            raise BlockingIOError
        taken, self.takes = data[: self.takes], self.takes - len(data[: self.takes])
        self.sent += taken
        return len(taken)


class UnconnectedConnection(BrokerConnection):
    """A connection without channels, and whose socket accepts nothing; records what waits to be written."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._unsent: list[bytes | memoryview] = []
        self._has_sent = self._is_sending_soon = False
        self._is_protocol_checked = True
        self.channels: dict[int, Any] = {}
        self._loop: Any = loop
        self._incoming = Incoming()
        self.socket: Any = Socket(0)
        self.unwritten = []
        self.written: list[bytes | memoryview] = []
        self.bytes_received = self.bytes_sent = self.frames_sent = 0
        self.frames: list[Any] = []

    def process_frame(self, value: Any) -> None:
        self.frames.append(value)

    def write(self, data: bytes | memoryview) -> None:
        self.written.append(data)


def marshaled(body: bytes) -> bytes:
    """The frames of one delivery and a heartbeat."""
    deliver = spec.Basic.Deliver("tag", 1, False, "", "q")
    properties = spec.BasicProperties(correlation_id="17", headers={"a": 2**40})
    parts: list[Any] = [frame.Method(1, deliver), frame.Header(1, len(body), properties)]
    parts += [frame.Body(1, body)] if body else []
    return b"".join(part.marshal() for part in [*parts, frame.Heartbeat()])


def marshal(one: Any) -> bytes:
    """The bytes of a frame; the properties in a content header are crew's, not pika's."""
    if isinstance(one, frame.Header):
        payload = content_header.encode(one.properties, one.body_size)
        return b"\x02" + struct.pack(">HI", one.channel_number, len(payload)) + payload + b"\xce"
    data: bytes = one.marshal()
    return data


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data`, cut at these offsets."""
    offsets = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(offsets)]


@given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
@settings(deadline=None, max_examples=50)
def test_frames_are_decoded_from_pieces_of_any_size(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(marshaled, bodies))
    connection = UnconnectedConnection()
    for piece in in_pieces(data, cuts):
        connection.on_bytes(piece)
    assert b"".join(map(marshal, connection.frames)) == data
    assert connection.bytes_received == len(data)
    assert len(connection._incoming) == 0


@pytest.mark.gen_test
async def test_frames_sent_in_one_iteration_of_the_loop_are_one_write() -> None:
    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.send_frames([b"a", b"b"])
    connection.send_frames([b"c"])
    assert connection.written == []
    await asyncio.sleep(0)
    assert connection.written == [b"abc"]
    assert (connection.frames_sent, connection.bytes_sent) == (3, 3)
    connection.send_frames([b"d"])
    await asyncio.sleep(0)
    assert connection.written == [b"abc", b"d"]


@pytest.mark.gen_test
async def test_frames_sent_while_the_connection_breaks_are_discarded_without_an_error() -> None:
    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.send_frames([b"a"])
    connection.socket = None
    await asyncio.sleep(0)
    assert connection.bytes_sent == 0


@pytest.mark.parametrize(
    "value", [b"T" + struct.pack(">Q", 2**60), b"d" + struct.pack(">d", float("nan"))], ids=["a far timestamp", "NaN"]
)
def test_a_header_that_pika_cannot_decode_does_not_break_the_connection(value: bytes) -> None:
    """The broker would redeliver the message on every new connection and so break each of them."""
    table = b"\x01a" + value
    table = struct.pack(">I", len(table)) + table
    payload = struct.pack(">HHQH", 60, 0, 0, 1 << 13) + table
    data = b"\x02" + struct.pack(">HI", 1, len(payload)) + payload + b"\xce"
    connection = UnconnectedConnection()
    connection.on_bytes(data)
    assert len(connection.frames) == 1


@pytest.mark.gen_test
async def test_a_missing_tls_file_is_a_temporary_error_of_one_sentence(tmp_path: Path) -> None:
    url = f"amqps://me:secret@127.0.0.1:1/%2F?cacertfile={tmp_path}/missing.pem"
    with pytest.raises(LinkError, match=r"missing\.pem cannot be read: no such file") as raised:
        await open_connection(url, name="n", heartbeat=10)
    assert not isinstance(raised.value, LinkRefused)
    assert "secret" not in str(raised.value)


@pytest.mark.gen_test
async def test_a_message_is_written_at_once_and_later_frames_in_one_write() -> None:
    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.send_message([b"a", b"b"])
    assert connection.written == [b"ab"]
    connection.send_message([b"c"])
    connection.send_soon(b"d")
    connection.send_frames([b"e"])
    assert connection.written == [b"ab"]
    await asyncio.sleep(0)
    assert connection.written == [b"ab", b"cde"]
    connection.send_message([b"f"])
    assert connection.written == [b"ab", b"cde", b"f"]


@pytest.mark.parametrize("takes", range(5))
@pytest.mark.gen_test
async def test_bytes_that_the_socket_does_not_accept_wait_in_the_transport(takes: int) -> None:
    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.socket = Socket(takes)
    connection.send_message([b"abc"])
    assert connection.socket.sent + b"".join(connection.written) == b"abc"
    assert connection.socket.sent == b"abc"[:takes]


@pytest.mark.gen_test
async def test_bytes_that_tls_does_not_accept_are_offered_again_unchanged() -> None:
    """OpenSSL requires it: https://docs.openssl.org/3.0/man3/SSL_write/#warnings."""

    def refuse(data: bytes) -> int:
        raise ssl.SSLWantWriteError(3, "The operation did not complete (write)")

    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.socket.send = refuse
    connection.send_message([b"abc", b"def"])
    connection.send_message([b"ghi"])
    assert connection.written == [b"abcdef"]


@pytest.mark.gen_test
async def test_a_message_does_not_overtake_bytes_that_wait_in_the_transport() -> None:
    connection = UnconnectedConnection(asyncio.get_running_loop())
    connection.socket = Socket(100)
    connection.unwritten = [b"earlier"]
    connection.send_message([b"abc"])
    assert connection.written == [b"abc"]
    assert connection.socket.sent == b""


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


@pytest.mark.parametrize("has_begun", [False, True], ids=["before the handshake", "during the handshake"])
@pytest.mark.gen_test
async def test_a_canceled_attempt_closes_its_socket_at_once_and_logs_nothing(
    silent_server: socket.socket, caplog: pytest.LogCaptureFixture, has_begun: bool
) -> None:
    opening = asyncio.ensure_future(open_connection(_url_of(silent_server), name="n", heartbeat=10))
    accepted, _ = await asyncio.to_thread(silent_server.accept)
    with accepted:
        accepted.settimeout(5)
        assert await asyncio.to_thread(accepted.recv, 8) == b"AMQP\x00\x00\x09\x01"
        if has_begun:
            start = spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
            accepted.sendall(frame.Method(0, start).marshal())
            assert await asyncio.to_thread(accepted.recv, 65536)
        began = time.monotonic()
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        assert await asyncio.to_thread(accepted.recv, 1) == b""
        assert time.monotonic() - began < 2
    assert not caplog.records


@pytest.mark.gen_test
async def test_an_attempt_without_a_response_is_a_timeout(silent_server: socket.socket) -> None:
    with pytest.raises(LinkError, match=r"connection timeout: the broker did not answer within 0\.1 s"):
        await open_connection(f"{_url_of(silent_server)}?connection_timeout=100", name="n", heartbeat=10)


def _url_of(server: socket.socket) -> str:
    return f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"


# --- frames that break the protocol ----------------------------------------------------------------------------------


class AbortedConnection(BrokerConnection):
    """A connection with one open channel and without a socket; records its faults."""

    def __init__(self) -> None:
        self._incoming = Incoming()
        self._is_protocol_checked = True
        self.bytes_received = self.frames_received = 0
        self.callbacks = CallbackManager()
        self._heartbeat_checker = None
        self.params = ConnectionParameters()
        self.faults: list[str] = []
        self.bodies: list[bytes] = []
        channel = CodecChannel(self, 1, None)
        channel._consumers["tag"] = lambda _channel, _method, _properties, body: self.bodies.append(body)
        self.channels: dict[int, Any] = {1: channel}

    def abort(self, fault: LinkError) -> None:
        self.faults.append(str(fault))


METHOD, HEADER, BODY = (
    frame.Method(1, spec.Basic.Deliver("tag", 1, False, "", "q")).marshal(),
    frame.Header(1, 4, spec.BasicProperties()).marshal(),
    frame.Body(1, b"body").marshal(),
)
ACK = frame.Method(1, spec.Basic.Ack(1)).marshal()


def with_wrong_end(data: bytes) -> bytes:
    """The frame, with an invalid end octet."""
    return data[:-1] + b"\x00"


def on_channel(channel: int, data: bytes) -> bytes:
    """The frame on another channel."""
    return data[:1] + struct.pack(">H", channel) + data[3:]


BREAKS = {
    "the end of a method": (with_wrong_end(METHOD) + HEADER + BODY, "ends with 0x00 instead of 0xce"),
    "the end of a header": (METHOD + with_wrong_end(HEADER) + BODY, "ends with 0x00 instead of 0xce"),
    "the end of a body": (METHOD + HEADER + with_wrong_end(BODY), "ends with 0x00 instead of 0xce"),
    "the end of a confirm": (with_wrong_end(ACK), "ends with 0x00 instead of 0xce"),
    "the end of a heartbeat": (with_wrong_end(frame.Heartbeat().marshal()), "ends with 0x00 instead of 0xce"),
    "a header on another channel": (
        METHOD + on_channel(2, HEADER) + BODY,
        "for channel 2, which is not open",
    ),
    "a body on another channel": (METHOD + HEADER + on_channel(2, BODY), "for channel 2, which is not open"),
    "a body on channel 0": (METHOD + HEADER + on_channel(0, BODY), "for channel 0"),
    "a header of nothing": (HEADER, "a header frame without a message arrived on channel 1"),
    "a second header": (METHOD + HEADER + HEADER, "a header frame without a message arrived on channel 1"),
    "a body without a header": (METHOD + BODY, "a body frame without a header arrived on channel 1"),
    "too long a body": (
        METHOD + HEADER + frame.Body(1, b"bod").marshal() + BODY,
        "more body bytes than its header announces arrived on channel 1",
    ),
    "a message in a message": (METHOD + HEADER + METHOD, "Basic.Deliver inside another message arrived on channel 1"),
    "a type that is none": (b"\x07" + ACK[1:], "cannot be decoded"),
    "a method that is none": (ACK[:7] + b"\xff\xff" + ACK[9:], "cannot be decoded"),
    "a channel that is not open": (on_channel(3, METHOD) + on_channel(3, HEADER), "for channel 3, which is not open"),
}


@pytest.mark.parametrize("pieces", [1, 2, 1000], ids=["at once", "in two pieces", "byte by byte"])
@pytest.mark.parametrize(("data", "message"), list(BREAKS.values()), ids=list(BREAKS))
def test_a_frame_that_breaks_the_protocol_closes_the_connection(data: bytes, message: str, pieces: int) -> None:
    """AMQP 0-9-1 §4.2.3 (the end of a frame), §4.2.6 (the frames of a message), §4.2.1 (channels)."""
    connection, size = AbortedConnection(), -(-len(data) // pieces)
    for start in range(0, len(data), size):
        if not connection.faults:
            connection.on_bytes(data[start : start + size])
    assert len(connection.faults) == 1
    assert connection.faults[0].startswith("protocol error from the broker, connection closed: ")
    assert message in connection.faults[0]
    assert connection.bodies == []
    assert len(connection._incoming) == 0


def test_messages_of_two_channels_may_be_interleaved() -> None:
    """AMQP 0-9-1 §4.2.6: frames are ordered on each channel, but not between channels."""
    connection = AbortedConnection()
    connection.channels[2] = CodecChannel(connection, 2, None)
    connection.channels[2]._consumers = connection.channels[1]._consumers
    connection.on_bytes(METHOD + on_channel(2, METHOD) + HEADER + on_channel(2, HEADER) + on_channel(2, BODY) + BODY)
    assert (connection.bodies, connection.faults) == ([b"body", b"body"], [])


def test_a_frame_larger_than_agreed_closes_the_connection_at_once() -> None:
    connection = AbortedConnection()
    connection._largest_frame = 4096
    connection.on_bytes(b"\x03\x00\x01" + struct.pack(">I", 2**31))
    assert len(connection.faults) == 1
    assert "more than the agreed 4096" in connection.faults[0]


# --- the first bytes from the peer ----------------------------------------------------------------------------------


def test_the_first_frame_of_a_broker_is_accepted() -> None:
    start = spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
    check_protocol(frame.Method(0, start).marshal())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: write amqps://"),
        (b"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP: use the broker's AMQP port"),
        (b"AMQP\x01\x01\x00\x08", "speaks AMQP 1-0-8, but crew speaks AMQP 0-9-1"),
        (b"AMQP\x00\x01\x00\x00", "speaks AMQP 1-0-0, but crew speaks AMQP 0-9-1"),
        (b"AM", "speaks AMQP of another version"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak AMQP: use the broker's AMQP port"),
        (b"\x00", "does not speak AMQP"),
    ],
)
def test_a_port_that_is_not_a_broker_is_recognized_by_its_first_bytes(data: bytes, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        check_protocol(data)

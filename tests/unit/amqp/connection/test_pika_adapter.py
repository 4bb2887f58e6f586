"""What crew expects of pika's private names, and how its adapter of the event loop handles a reset connection."""

import ast
import asyncio
import collections
import contextlib
import inspect
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.channel import ContentFrameAssembler

import crew.amqp
from crew.amqp.connection.channel_codec import CodecChannel
from crew.amqp.connection.connection import BrokerConnection, open_connection
from crew.amqp.connection.pika_adapter import IOServices, PikaConnection
from crew.amqp.errors import LinkError
from tests.support.waiting import until

ADAPTER = Path("connection/pika_adapter.py")
TRANSPORT = io_services_utils._AsyncTransportBase
CHANGED = f"pika {pika.__version__} has changed it: adapt crew/amqp/{ADAPTER}"

# Methods that crew overrides or calls -> the names of their arguments.
METHODS: dict[tuple[type, str], list[str]] = {
    (AsyncioConnection, "_proto_connection_made"): ["transport"],
    (AsyncioConnection, "_proto_connection_lost"): ["error"],
    (AsyncioConnection, "_on_data_available"): ["data_in"],
    (AsyncioConnection, "_output_marshaled_frames"): ["marshaled_frames"],
    (AsyncioConnection, "_deliver_frame_to_channel"): ["value"],
    (AsyncioConnection, "_create_channel"): ["channel_number", "on_open_callback"],
    (AsyncioConnection, "_process_frame"): ["frame_value"],
    (AsyncioConnection, "_terminate_stream"): ["error"],
    (pika.channel.Channel, "_handle_content_frame"): ["frame_value"],
    (pika.channel.Channel, "_generate_consumer_tag"): [],
    (pika.channel.Channel, "_rpc"): ["method", "callback", "acceptable_replies"],
    (IOServices, "connect_socket"): ["sock", "resolved_addr", "on_done"],
}


class Connected(BrokerConnection):
    """A connection that never connects."""

    def __init__(self) -> None:
        super().__init__(pika.ConnectionParameters("127.0.0.1", 1), custom_ioloop=asyncio.get_running_loop())


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda one: getattr(one, "__name__", one))
def test_pika_has_the_methods_that_crew_overrides_or_calls(owner: type, name: str) -> None:
    pikas = next(
        (vars(one)[name] for one in owner.__mro__ if one.__module__.startswith("pika") and name in vars(one)), None
    )
    assert pikas is not None, f"{name}: {CHANGED}"
    assert list(inspect.signature(pikas).parameters)[1:] == METHODS[owner, name], f"{name}: {CHANGED}"


@pytest.mark.gen_test
async def test_pika_has_the_attributes_that_crew_reads() -> None:
    connection = Connected()
    assert connection._channels is connection.channels == {}, f"Connection._channels: {CHANGED}"
    assert isinstance(connection._body_max_length, int | None), f"Connection._body_max_length: {CHANGED}"
    assert connection._transport is None, f"Connection._transport: {CHANGED}"
    channel = CodecChannel(connection, 1, None)
    assert (channel._consumers, channel._cancelled) == ({}, set()), f"Channel._consumers, _cancelled: {CHANGED}"
    assembler = channel._content_assembler
    parts = (assembler._method_frame, assembler._header_frame, assembler._seen_so_far)
    assert parts == (None, None, 0), f"ContentFrameAssembler: {CHANGED}"
    connection.drop()


def test_pika_has_the_transport_that_crew_reads_and_writes() -> None:
    sock: Any = object()
    transport = io_services_utils._AsyncPlaintextTransport.__new__(io_services_utils._AsyncPlaintextTransport)
    TRANSPORT.__init__(transport, sock, None, None)
    assert transport._sock is sock, f"transport._sock: {CHANGED}"
    assert transport._tx_buffers == collections.deque(), f"transport._tx_buffers: {CHANGED}"
    source = inspect.getsource(TRANSPORT._consume)
    for size in ("self._MAX_RECV_BYTES", "self._MAX_CONSUME_BYTES"):
        assert size in source, f"transport._consume: {CHANGED}"


@pytest.mark.gen_test
async def test_pika_counts_the_parts_of_a_message_as_crew_expects() -> None:
    connection = Connected()
    assembler = CodecChannel(connection, 1, None)._content_assembler
    assembler.process(frame.Method(1, spec.Basic.Deliver("tag", 1, False, "", "q")))
    assert assembler._method_frame is not None, CHANGED
    assembler.process(frame.Header(1, 4, spec.BasicProperties()))
    assert assembler._header_frame is not None, CHANGED
    assembler.process(frame.Body(1, b"abc"))
    assert assembler._seen_so_far == 3, CHANGED
    connection.drop()


def private_names_of_pika() -> set[str]:
    """The private names of the classes that crew derives from, and of their objects."""
    names: set[str] = set()
    for owner in (AsyncioConnection, pika.channel.Channel, ContentFrameAssembler, TRANSPORT):
        for one in owner.__mro__[:-1]:
            names |= set(vars(one))
            with contextlib.suppress(OSError):  # a class without a class statement
                names |= set(ast_attributes(inspect.getsource(one)))
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def ast_attributes(source: str) -> list[str]:
    """The attributes of `self` that the source of a class assigns or reads."""
    nodes = ast.walk(ast.parse(textwrap.dedent(source)))
    return [
        one.attr
        for one in nodes
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self"
    ]


def test_no_other_module_uses_or_overrides_a_private_name_of_pika() -> None:
    """A name of crew that pika has, too, would override pika's by accident."""
    private = private_names_of_pika()
    assert {"_transport", "_channels", "_tx_buffers", "_consumers", "_on_data_available"} <= private
    folder = Path(crew.amqp.__file__).parent
    derived = (folder / "connection/connection.py", folder / "connection/channel_codec.py")
    for path in folder.rglob("*.py"):
        if path == folder / ADAPTER:
            continue
        tree = ast.parse(path.read_text())
        used = {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute) and not _is_self(one.value)}
        if path in derived:
            used |= {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
            used |= {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert sorted(used & private) == [], f"{path.relative_to(folder)} uses private names of pika: use {ADAPTER}"


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


@pytest.mark.gen_test
async def test_a_subclass_has_to_handle_what_pika_calls() -> None:
    connection = PikaConnection.__new__(PikaConnection)
    calls: dict[Callable[..., Any], tuple[Any, ...]] = {
        connection.read_sizes: (),
        connection._on_data_available: (b"",),
        connection._output_marshaled_frames: ([],),
        connection._deliver_frame_to_channel: (None,),
        connection._create_channel: (1, None),
        connection._proto_connection_lost: (None,),
    }
    for method, arguments in calls.items():
        with pytest.raises(NotImplementedError):
            method(*arguments)


@pytest.mark.gen_test
async def test_a_peer_that_closes_before_the_handshake_is_a_failed_attempt() -> None:
    results: list[Any] = []

    IOServices(asyncio.get_running_loop()).create_streaming_connection(lambda: None, socket.socket(), results.append)

    assert not results  # pika promises no callback before the call has returned
    await until(lambda: results)
    assert isinstance(results[0], ConnectionResetError)


@pytest.mark.gen_test
async def test_every_connection_uses_these_io_services(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[socket.socket] = []

    def create_with_reset_socket(self: IOServices, sock: socket.socket, **arguments: Any) -> Any:
        connected.append(sock)
        sock.shutdown(socket.SHUT_RDWR)
        sock = socket.socket()  # as if the peer had reset it in between
        return create(self, sock=sock, **arguments)

    create = IOServices.create_streaming_connection
    monkeypatch.setattr(IOServices, "create_streaming_connection", create_with_reset_socket)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(LinkError, match="connection reset"):
        await open_connection(f"amqp://127.0.0.1:{listening.getsockname()[1]}/", name="test", heartbeat=10)
    assert len(connected) == 1
    connected[0].close()

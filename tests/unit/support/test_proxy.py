"""The proxy of the tests simulates exactly the requested fault."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.proxy import Proxy, proxying
from tests.support.waiting import eventually

SILENCE = 0.1  # seconds without data


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=[server], daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with proxying() as make:
        yield make(f"amqp://guest:secret@127.0.0.1:{echo}/here?heartbeat=2")


def test_the_url_differs_from_that_of_the_broker_by_the_port_only(proxy: Proxy, echo: int) -> None:
    assert proxy.url == f"amqp://guest:secret@127.0.0.1:{proxy.port}/here?heartbeat=2"
    assert proxy.port != echo


def test_data_is_forwarded_in_both_directions(proxy: Proxy) -> None:
    with _connect(proxy) as client:
        assert _echo(client, b"x" * 300_000) == b"x" * 300_000
        assert proxy.connections == 1
    eventually(lambda: proxy.connections == 0)


def test_a_cut_resets_existing_connections_and_accepts_new_ones(proxy: Proxy) -> None:
    with _connect(proxy) as client:
        _echo(client)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with _connect(proxy) as client:
        _echo(client)


def test_a_cut_with_refuse_refuses_new_connections_until_it_is_healed(proxy: Proxy) -> None:
    proxy.cut(refuse=True)
    with pytest.raises(ConnectionRefusedError):
        _connect(proxy)
    proxy.heal()
    with _connect(proxy) as client:
        _echo(client)


def test_a_half_open_connection_forwards_nothing_and_is_never_closed(proxy: Proxy) -> None:
    with _connect(proxy) as client, _connect(proxy) as another:
        _echo(client)
        _echo(another)
        proxy.half_open()
        client.send(b"?")
        assert _is_silent(client)
        proxy.heal()
        assert _is_silent(client)
        assert proxy.connections == 0
        with _connect(proxy) as third:
            _echo(third)


def test_new_connections_can_be_half_open_too(proxy: Proxy) -> None:
    proxy.half_open(new=True)
    with _connect(proxy) as client:
        client.send(b"?")
        assert _is_silent(client)
    proxy.heal()
    with _connect(proxy) as client:
        _echo(client)


def test_data_held_by_a_freeze_is_forwarded_when_it_is_healed(proxy: Proxy) -> None:
    with _connect(proxy) as client:
        _echo(client)
        proxy.freeze()
        with _connect(proxy) as late:
            client.send(b"1")
            late.send(b"2")
            assert _is_silent(client)
            assert _is_silent(late)
            proxy.heal()
            assert (client.recv(1), late.recv(1)) == (b"1", b"2")


def test_a_delay_applies_in_each_direction(proxy: Proxy) -> None:
    proxy.delay(0.1)
    with _connect(proxy) as client:
        began = time.monotonic()
        _echo(client)
        assert 0.2 <= time.monotonic() - began < 2


def test_a_throttled_connection_is_slow(proxy: Proxy) -> None:
    proxy.throttle(20_000)
    with _connect(proxy) as client:
        began = time.monotonic()
        _echo(client, b"x" * 8_000)
        assert 0.3 <= time.monotonic() - began < 3


def _serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_send_back, args=[client], daemon=True).start()


def _send_back(client: socket.socket) -> None:
    with client:
        try:
            while data := client.recv(65536):
                client.sendall(data)
        except OSError:
            pass  # the proxy has reset it


def _connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def _echo(client: socket.socket, data: bytes = b"!") -> bytes:
    threading.Thread(target=client.sendall, args=[data], daemon=True).start()
    received = bytearray()
    while len(received) < len(data):
        received += client.recv(65536)
    assert received == data
    return bytes(received)


def _is_silent(client: socket.socket) -> bool:
    client.settimeout(SILENCE)
    try:
        return not client.recv(1) and False
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)

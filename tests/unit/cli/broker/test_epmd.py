"""The client of epmd, the daemon in which Erlang nodes find each other."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from crew.cli.broker import epmd


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def reply(listener: socket.socket, *replies: bytes) -> list[bytes]:
    """Send these replies, one for each request; return the list to which the requests are added."""
    requests: list[bytes] = []

    def serve() -> None:
        for one in replies:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(100))
                connection.sendall(one)
        listener.close()

    Thread(target=serve, daemon=True).start()
    return requests


def test_an_epmd_is_recognized_by_its_reply(listener: socket.socket) -> None:
    port = port_of(listener)
    requests = reply(listener, port.to_bytes(4, "big") + b"name crew at port 21001\n")

    assert epmd.answers(port)
    assert requests == [b"\x00\x01n"]


def test_another_program_on_its_port_is_not_an_epmd_and_is_not_stopped(listener: socket.socket) -> None:
    port = port_of(listener)
    requests = reply(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert epmd.stop(port)
    assert requests == [b"\x00\x01n"]


def test_an_epmd_is_stopped_by_its_own_protocol(listener: socket.socket) -> None:
    port = port_of(listener)
    names = port.to_bytes(4, "big")
    requests = reply(listener, names, b"OK")

    assert epmd.stop(port)
    assert requests == [b"\x00\x01n", b"\x00\x01k"]


def test_an_epmd_with_a_registered_node_is_stopped_after_a_retry(listener: socket.socket) -> None:
    port = port_of(listener)
    names = port.to_bytes(4, "big")
    requests = reply(listener, names, b"NO", names, b"OK")

    assert epmd.stop(port)
    assert requests.count(b"\x00\x01k") == 2


def test_stopping_an_epmd_that_does_not_run_succeeds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))

        assert not epmd.answers(port_of(free))
        assert epmd.stop(port_of(free))

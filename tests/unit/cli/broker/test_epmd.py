"""epmd, the daemon in which Erlang nodes look each other up."""

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


def answer(listener: socket.socket, *answers: bytes) -> list[bytes]:
    """Answer one request after the other; what they were is in the list then."""
    requests: list[bytes] = []

    def serve() -> None:
        for one in answers:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(100))
                connection.sendall(one)
        listener.close()

    Thread(target=serve, daemon=True).start()
    return requests


def test_an_epmd_is_told_by_its_answer(listener: socket.socket) -> None:
    port = port_of(listener)
    requests = answer(listener, port.to_bytes(4, "big") + b"name crew at port 21001\n")

    assert epmd.answers(port)
    assert requests == [b"\x00\x01n"]


def test_another_program_on_its_port_is_none_and_is_told_nothing(listener: socket.socket) -> None:
    port = port_of(listener)
    requests = answer(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert epmd.stop(port)
    assert requests == [b"\x00\x01n"]


def test_it_is_ended_by_its_own_protocol(listener: socket.socket) -> None:
    port = port_of(listener)
    known = port.to_bytes(4, "big")
    requests = answer(listener, known, b"OK")

    assert epmd.stop(port)
    assert requests == [b"\x00\x01n", b"\x00\x01k"]


def test_one_that_still_knows_a_node_is_asked_again(listener: socket.socket) -> None:
    port = port_of(listener)
    known = port.to_bytes(4, "big")
    requests = answer(listener, known, b"NO", known, b"OK")

    assert epmd.stop(port)
    assert requests.count(b"\x00\x01k") == 2


def test_where_nothing_listens_there_is_nothing_to_end() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))

        assert not epmd.answers(port_of(free))
        assert epmd.stop(port_of(free))

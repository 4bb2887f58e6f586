"""An exception that pika would raise in the event loop becomes a failed attempt to connect."""

import asyncio
import socket
from typing import Any

import pytest

from crew.amqp.connection.connection import open_connection
from crew.amqp.connection.io_services import IOServices
from crew.amqp.errors import LinkError
from tests.support.waiting import until


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

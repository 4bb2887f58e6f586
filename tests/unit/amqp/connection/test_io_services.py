"""What pika would raise into the event loop is told to whoever connects."""

import asyncio
import socket
from typing import Any

import pytest

from crew.amqp.connection.connection import open_connection
from crew.amqp.connection.io_services import IOServices
from crew.amqp.errors import LinkError
from tests.support.waiting import until


@pytest.mark.gen_test
async def test_a_peer_that_has_gone_before_the_handshake_is_told_as_a_failure() -> None:
    told: list[Any] = []

    IOServices(asyncio.get_running_loop()).create_streaming_connection(lambda: None, socket.socket(), told.append)

    assert not told  # as pika promises: never before the call has returned
    await until(lambda: told)
    assert isinstance(told[0], ConnectionResetError)


@pytest.mark.gen_test
async def test_every_wire_connects_by_way_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[socket.socket] = []

    def gone(self: IOServices, sock: socket.socket, **arguments: Any) -> Any:
        connected.append(sock)
        sock.shutdown(socket.SHUT_RDWR)
        sock = socket.socket()  # as if it had been reset between two looks at it
        return create(self, sock=sock, **arguments)

    create = IOServices.create_streaming_connection
    monkeypatch.setattr(IOServices, "create_streaming_connection", gone)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(LinkError, match="connection reset"):
        await open_connection(f"amqp://127.0.0.1:{listening.getsockname()[1]}/", name="test", heartbeat=10)
    assert len(connected) == 1
    connected[0].close()

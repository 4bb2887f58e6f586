"""A connection over a Unix domain socket."""

import asyncio
from pathlib import Path

import pytest

from crew.amqp.connection.connection import close_connection, open_connection
from crew.amqp.errors import LinkError
from crew.testing.broker.broker import Broker
from crew.testing.broker.server import BrokerServer


@pytest.mark.gen_test
async def test_a_connection_opens_and_closes(tmp_path: Path) -> None:
    server = BrokerServer(Broker())
    await server.listen_unix(str(tmp_path / "amqp"))
    connection = await open_connection(f"amqp://localhost/?socket={tmp_path}/amqp", name="n", heartbeat=10)
    assert connection.is_open
    assert [session.name for session in server.sessions] == ["n"]
    await close_connection(connection)
    assert connection.is_closed
    await server.close()


@pytest.mark.gen_test
async def test_a_missing_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no such file or directory"):
        await open_connection(f"amqp://localhost/?socket={tmp_path}/amqp", name="n", heartbeat=10)


@pytest.mark.gen_test
async def test_a_broker_that_refuses_connections_is_an_error(tmp_path: Path) -> None:
    server = BrokerServer(Broker())
    server.refuse_connections(True)
    await server.listen_unix(str(tmp_path / "amqp"))
    async with asyncio.timeout(10):
        with pytest.raises(LinkError):
            await open_connection(f"amqp://localhost/?socket={tmp_path}/amqp", name="n", heartbeat=10)
    await server.close()

"""`serve` with an invalid port, and refusals while it drains."""

import pytest
from tornado.netutil import bind_sockets
from tornado.web import Application

from crew.client import Client
from crew.errors import SettingsError
from crew.gateway import serve
from crew.gateway.serving.server import DrainingServer
from tests.support.broker import unreachable_url
from tests.support.sender import MUCH, Sender


@pytest.mark.parametrize("port", [-1, 65536, 99999])
@pytest.mark.gen_test
async def test_a_port_out_of_range_is_refused(port: int) -> None:
    with (
        unreachable_url() as url,
        pytest.raises(SettingsError, match=f"port {port} is out of range: it must be between"),
    ):
        await serve(Application(), Client(url), port=port)


@pytest.mark.gen_test
async def test_a_draining_gateway_answers_a_large_request_before_it_closes_the_connection() -> None:
    server = DrainingServer(Application())
    (socket, *_) = sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    server.refuse_requests()
    sender = await Sender.of(socket.getsockname()[1])
    head = await sender.post(MUCH)
    assert head.split()[1] == b"503"
    assert b"Connection: close" in head
    assert await sender.is_closed()
    await sender.disconnect()
    server.stop()

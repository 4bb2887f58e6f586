"""HTTP clients that wait for a job, as the gateway process counts them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from crew import Client
from crew.gateway import routes
from crew.jobs import JobStore
from tests.support.waiting import until


@asynccontextmanager
async def gateway(broker_url: str, folder: Path) -> AsyncIterator[tuple[Client, int]]:
    """Serves crew's routes; yields their client and port."""
    client = Client(broker_url)
    server = HTTPServer(Application(routes(client, JobStore(f"sqlite:///{folder}/jobs.db"), prefix="/background")))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield client, sockets[0].getsockname()[1]
    finally:
        server.stop()
        await client.close()
        await server.close_all_connections()


async def send_request(port: int, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send a request; returns before the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    return reader, writer


@pytest.mark.gen_test(timeout=30)
async def test_a_waiter_is_removed_when_its_client_disconnects_or_the_job_ends(broker_url: str, tmp_path: Path) -> None:
    async with gateway(broker_url, tmp_path) as (client, port):
        await client.connect()
        job = await client.submit(f"unserved.{uuid.uuid4().hex}", wait_for_worker=True)
        request = f"GET /background/jobs/{job.id}/response/"
        clients = [await send_request(port, request) for _ in range(20)]
        await until(lambda: len(client.jobs._waiters) == 20, timeout=10)

        for _, writer in clients[1:]:
            writer.close()
        await until(lambda: len(client.jobs._waiters) == 1, timeout=10)

        await job.cancel()
        response = await clients[0][0].readuntil(b"{}")
        assert response.startswith(b"HTTP/1.1 200 OK")
        assert len(client.jobs._waiters) == 0
        clients[0][1].close()

"""aio-pika's RPC pattern with JSON: `aio_pika.patterns.JsonRPC`."""

from typing import Any

import aio_pika
import load
from aio_pika.patterns import JsonRPC

from peers.role import PREFETCH, URL, main, until_stopped

TASK = "crew.benchmark.aio_pika"


async def open_rpc() -> Any:
    """A connected RPC."""
    connection = await aio_pika.connect(URL)
    channel = await connection.channel()
    await channel.set_qos(PREFETCH)
    return await JsonRPC.create(channel)


async def echo(*, data: Any) -> Any:
    """Return the payload."""
    return data


async def worker(_: str) -> None:
    """Serve the echo."""
    rpc = await open_rpc()
    await rpc.register(TASK, echo, auto_delete=True)
    await until_stopped()


async def client(_: str) -> None:
    """Run the orders from stdin."""
    rpc = await open_rpc()
    await load.serve(lambda payload: rpc.call(TASK, {"data": payload}))


if __name__ == "__main__":
    main(client, worker)

"""FastStream's `broker.request`, which uses RabbitMQ's direct reply-to."""

from typing import Any

import load
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from peers.role import PREFETCH, TIMEOUT, URL, main, until_stopped

QUEUE = "crew.benchmark.faststream"


def connect() -> Any:
    """The broker, without a log line for each message."""
    return RabbitBroker(URL, default_channel=Channel(prefetch_count=PREFETCH), logger=None)


async def echo(data: dict[str, Any]) -> dict[str, Any]:
    """Return the payload."""
    return data


async def worker(_: str) -> None:
    """Serve the echo."""
    broker = connect()
    broker.subscriber(RabbitQueue(QUEUE, auto_delete=True))(echo)
    await broker.start()
    await until_stopped()


async def client(_: str) -> None:
    """Run the orders from stdin."""
    broker = connect()
    await broker.start()

    async def call(payload: Any) -> Any:
        reply = await broker.request(payload, QUEUE, timeout=TIMEOUT)
        return await reply.decode()

    await load.serve(call)


if __name__ == "__main__":
    main(client, worker)

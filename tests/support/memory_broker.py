"""An in-memory broker in a thread, on a loopback port and in real time, for clients of any kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crew.client.loop_thread import LoopThread
from crew.testing.broker.broker import Broker
from crew.testing.broker.server import BrokerServer


@contextmanager
def memory_broker(broker: Callable[[], Broker] = Broker) -> Iterator[str]:
    """The URL of an in-memory broker that serves until the end of the block."""
    thread = LoopThread()

    async def start() -> tuple[BrokerServer, int]:
        server = BrokerServer(broker())
        return server, await server.listen_tcp()

    server, port = thread.run(start())
    try:
        yield f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    finally:
        thread.close(server.close)

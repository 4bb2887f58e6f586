"""Dramatiq over RabbitMQ, with results in Redis."""

from typing import Any

import dramatiq
import load
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers.role import TIMEOUT, URL, BlockingCalls, main, until_stopped

QUEUE = "crew.benchmark.dramatiq"


def _echo(data: Any) -> Any:
    return data


def connect(address: str) -> tuple[Any, Any]:
    """The broker, and the actor of the echo."""
    broker = RabbitmqBroker(url=URL)
    broker.add_middleware(Results(backend=RedisBackend(url=f"redis://{address}/0")))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(_echo, actor_name="echo", queue_name=QUEUE, store_results=True, max_retries=0)


async def worker(address: str) -> None:
    """Serve the echo in one thread."""
    broker, _ = connect(address)
    dramatiq.Worker(broker, worker_threads=1).start()
    await until_stopped()


async def client(address: str) -> None:
    """Run the orders from stdin."""
    _, echo = connect(address)

    def wait(message: Any) -> Any:
        return message.get_result(block=True, timeout=int(TIMEOUT * 1000))

    await load.serve(BlockingCalls(echo.send, wait).call)


if __name__ == "__main__":
    main(client, worker)

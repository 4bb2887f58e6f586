"""Taskiq over RabbitMQ, with results in Redis, for which its client polls."""

from typing import Any

import load
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

from peers.role import PREFETCH, TIMEOUT, URL, main

QUEUE = "crew.benchmark.taskiq"
POLL = 0.001  # seconds; Taskiq's default of 0.2 would be its latency


async def _echo(data: Any) -> Any:
    return data


def connect(address: str) -> tuple[Any, Any]:
    """The broker, and the task."""
    results = RedisAsyncResultBackend(f"redis://{address}/0", result_ex_time=60)
    queues = [Queue(name=QUEUE, type=QueueType.CLASSIC)]
    broker = AioPikaBroker(URL, qos=PREFETCH, task_queues=queues).with_result_backend(results)
    return broker, broker.register_task(_echo, task_name="echo")


async def worker(address: str) -> None:
    """Serve the echo."""
    broker, _ = connect(address)
    broker.is_worker_process = True
    await broker.startup()
    print("ready", flush=True)
    await run_receiver_task(broker, max_prefetch=PREFETCH)


async def client(address: str) -> None:
    """Run the orders from stdin."""
    broker, echo = connect(address)
    await broker.startup()

    async def call(payload: Any) -> Any:
        task = await echo.kiq(payload)
        return (await task.wait_result(check_interval=POLL, timeout=TIMEOUT)).return_value

    await load.serve(call)


if __name__ == "__main__":
    main(client, worker)

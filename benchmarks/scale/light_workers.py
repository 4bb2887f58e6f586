"""Light workers: they use the broker as worker processes of crew do, from one process over bare pika.

    python -m scale.light_workers CONSUMERS TASK CONTROL_QUEUES BROADCAST_KEY

Each worker has two connections. It consumes the queue of TASK with a prefetch, echoes each call, and acknowledges it.
Each control queue is bound to `crew.control` with BROADCAST_KEY, as a cancel is sent to all workers of a task. The
queue of the task must exist.
"""

import asyncio
import os
import sys
from typing import Any, Final
from uuid import uuid4

from floor import open_channel
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

PREFETCH: Final = 16  # a worker of crew holds about 10 ms of work
AT_A_TIME: Final = 20  # connections that open
CONTROL: Final = "crew.control"


async def run(consumers: int, task: str, control_queues: int, key: str) -> None:
    """Serve until stdin ends."""
    slots = asyncio.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as group:
        for _ in range(consumers):
            group.create_task(_consume_calls(slots, task))
    control = await open_channel(os.environ["CREW_AMQP_URL"])
    for _ in range(control_queues):
        name = f"crew.benchmark.control.{uuid4().hex}"
        control.queue_declare(name, exclusive=True)
        control.queue_bind(name, CONTROL, key)
        await _consuming(control, name, lambda *_: None, auto_ack=True)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _consume_calls(slots: asyncio.Semaphore, task: str) -> None:
    async with slots:
        url = os.environ["CREW_AMQP_URL"]
        consume, publish = await open_channel(url), await open_channel(url)

        def reply(_: Channel, deliver: Basic.Deliver, call: BasicProperties, body: bytes) -> None:
            answer = BasicProperties(
                content_type=call.content_type, correlation_id=call.correlation_id, delivery_mode=call.delivery_mode
            )
            publish.basic_publish("", str(call.reply_to), body, answer)
            consume.basic_ack(deliver.delivery_tag)

        consume.basic_qos(prefetch_count=PREFETCH)
        await _consuming(consume, f"crew.tasks.{task}", reply)


async def _consuming(channel: Channel, queue: str, on_message: Any, **options: Any) -> None:
    consuming: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.basic_consume(queue, on_message, callback=consuming.set_result, **options)
    await consuming


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))

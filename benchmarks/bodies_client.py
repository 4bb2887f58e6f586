"""A client of the benchmark of large bodies: crew's, or the one over bare pika. Orders come from stdin.

    python benchmarks/bodies_client.py crew|floor [--persistent]

Each order is one line of JSON, and so is each answer; see `Order` and `Measurement`.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypedDict

import floor
import payloads

from crew import Client, UnknownTask

TASK = "benchmark.echo"
TICK = 0.005  # seconds between two timers
WORKER_TIMEOUT = 20.0  # seconds until the worker must serve
EXPIRATION = 60.0  # seconds of one call

Call = Callable[[Any], Awaitable[Any]]


class Order(TypedDict):
    """Call for `seconds` with `in_flight` payloads of this kind and size in bytes."""

    kind: str
    size: int
    seconds: float
    in_flight: int


class Measurement(TypedDict):
    """Calls, seconds, CPU seconds of the client, the longest delay of a timer, and the median latency, in seconds."""

    calls: int
    seconds: float
    cpu: float
    late: float
    p50: float


async def serve(call: Call) -> None:
    """Print "ready", then run the orders from stdin until it ends."""
    print("ready", flush=True)
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await _run(json.loads(line), call)), flush=True)


async def _run(order: Order, call: Call) -> Measurement:
    payload, latencies = payloads.payload(order["kind"], order["size"]), list[float]()
    if await call(payload) != payload:
        raise RuntimeError(f"another value came back for {order}")
    cpu, start = time.process_time(), time.perf_counter()
    with _timers() as late:
        async with asyncio.TaskGroup() as group:
            for _ in range(order["in_flight"]):
                group.create_task(_one_after_another(call, payload, start + order["seconds"], latencies))
    return Measurement(
        calls=len(latencies),
        seconds=time.perf_counter() - start,
        cpu=time.process_time() - cpu,
        late=max(late),
        p50=sorted(latencies)[len(latencies) // 2],
    )


async def _one_after_another(call: Call, payload: Any, end: float, latencies: list[float]) -> None:
    while (begun := time.perf_counter()) < end:
        await call(payload)
        latencies.append(time.perf_counter() - begun)


@contextlib.contextmanager
def _timers() -> Iterator[list[float]]:
    """Run a timer every `TICK`; yields by how many seconds each one was late."""
    loop, late = asyncio.get_running_loop(), [0.0]
    timer: asyncio.Handle

    def tick(due: float) -> None:
        nonlocal timer
        late.append(loop.time() - due)
        due = loop.time() + TICK
        timer = loop.call_at(due, tick, due)

    timer = loop.call_soon(tick, loop.time())
    try:
        yield late
    finally:
        timer.cancel()


async def run_crew(*, persistent: bool) -> None:
    """Wait for the worker, then run the orders."""
    async with Client(name="benchmark") as client:

        async def call(payload: Any) -> Any:
            return await client.call(TASK, payload, persistent=persistent, expiration=EXPIRATION)

        async with asyncio.timeout(WORKER_TIMEOUT):
            while True:
                try:
                    await call(None)
                except UnknownTask:
                    await asyncio.sleep(0.1)  # polled, as the worker is another process
                else:
                    break
        await serve(call)


async def run_floor() -> None:
    """Run the orders over bare pika."""
    channel = await floor.open_channel(os.environ["CREW_AMQP_URL"])
    client = floor.Client(channel)
    await floor.consume(channel, client.reply_to, client.on_reply, exclusive=True)
    await serve(client.call)


if __name__ == "__main__":
    asyncio.run(run_floor() if sys.argv[1] == "floor" else run_crew(persistent="--persistent" in sys.argv))

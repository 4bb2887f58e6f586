"""The load that a client under test carries: N calls in flight for a while, one order after another from stdin.

A client runs in a process of its own and answers each order with one line of JSON, so that two of them can take turns
and neither sees what the other did to its modules.
"""

import asyncio
import cProfile
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

PAYLOAD = {"id": 12345, "name": "resize", "sizes": [640, 480]}  # about 50 bytes as JSON

Call = Callable[[Any], Awaitable[Any]]


class Order(TypedDict):
    """What a client shall do: `seconds` of load with `in_flight` calls; a profile of it goes to the file `profile`."""

    seconds: float
    in_flight: int
    profile: str | None


class Answer(TypedDict):
    """What came of it: calls that ended, seconds they took, CPU seconds of the client, sorted latencies in seconds."""

    calls: int
    seconds: float
    cpu: float
    p50: float
    p99: float


async def serve(call: Call) -> None:
    """Say that the client is ready, then carry out the orders from stdin until it ends."""
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await _carry_out(json.loads(line), call)), flush=True)


async def _carry_out(order: Order, call: Call) -> Answer:
    if not order["profile"]:
        return await _load(call, order["seconds"], order["in_flight"])
    profile = cProfile.Profile()
    profile.enable()
    try:
        return await _load(call, order["seconds"], order["in_flight"])
    finally:
        profile.disable()
        profile.dump_stats(order["profile"])


async def _load(call: Call, seconds: float, in_flight: int) -> Answer:
    latencies: list[float] = []
    cpu, start = time.process_time(), time.perf_counter()
    end = start + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(_one_after_another(call, end, latencies))
    took = time.perf_counter() - start
    latencies.sort()
    return Answer(
        calls=len(latencies),
        seconds=took,
        cpu=time.process_time() - cpu,
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
    )


async def _one_after_another(call: Call, end: float, latencies: list[float]) -> None:
    clock = time.perf_counter
    before = clock()
    while before < end:
        value = await call(PAYLOAD)
        after = clock()
        if value != PAYLOAD:
            raise RuntimeError(f"sent {PAYLOAD!r}, got {value!r}")
        latencies.append(after - before)
        before = after

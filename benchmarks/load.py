"""The load for a measured client. Orders come from stdin: N calls in flight for some seconds, N at once, or over HTTP.

Each client runs in its own process and replies to each order with one line of JSON. So two clients can take turns, and
neither can affect the other.
"""

import asyncio
import cProfile
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

PAYLOAD = {"id": 12345, "name": "resize", "sizes": [640, 480]}  # about 50 bytes as JSON

GIVE_UP = 60.0  # seconds after the end of an order

Call = Callable[[Any], Awaitable[Any]]


class Order(TypedDict):
    """An order for a client: `seconds` of load with `in_flight` calls; `profile` is a file for its profile."""

    seconds: float
    in_flight: int
    profile: str | None


class Measurement(TypedDict):
    """The result of an order: number of calls, seconds of load, CPU seconds of the client, latencies in seconds."""

    calls: int
    seconds: float
    cpu: float
    p50: float
    p99: float


class Burst(TypedDict):
    """An order for a client: make `burst` calls at once and wait for all of them; do that `times` times."""

    burst: int
    times: int


class Bursts(TypedDict):
    """The result of a `Burst`: seconds of each; of the last one, the latest reply in medians of the last tenth."""

    seconds: list[float]
    latest: float


class Web(TypedDict):
    """An order for a client: listen for HTTP requests that make one call, see `call_handlers.py`."""

    web: bool


class Port(TypedDict):
    """The result of `Web`: the port on 127.0.0.1."""

    port: int


async def serve(call: Call, mixin: Callable[[], type] | None = None) -> None:
    """Print "ready", then run the orders from stdin until it ends.

    Args:
        call: makes a call of the echo.
        mixin: returns the mixin of the system for Tornado handlers.
    """
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await _run(json.loads(line), call, mixin)), flush=True)


async def _run(order: Any, call: Call, mixin: Callable[[], type] | None) -> Measurement | Bursts | Port:
    if "web" in order:
        import call_handlers  # needs Tornado

        return Port(port=call_handlers.listen(call, PAYLOAD, mixin and mixin()))
    async with asyncio.timeout(order.get("seconds", 0) + GIVE_UP):  # a call without a reply ends this process
        if "burst" in order:
            return await _bursts(call, order["burst"], order["times"])
        if not order["profile"]:
            return await _load(call, order["seconds"], order["in_flight"])
        return await _profiled(call, order["seconds"], order["in_flight"], order["profile"])


async def _bursts(call: Call, calls: int, times: int) -> Bursts:
    async def one() -> None:
        await call(PAYLOAD)
        replies.append(time.perf_counter() - start)

    seconds = []
    for _ in range(times):
        replies: list[float] = []
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(one())
        seconds.append(replies[-1])
    last_tenth = replies[-max(calls // 10, 1) :]
    return Bursts(seconds=seconds, latest=replies[-1] / last_tenth[len(last_tenth) // 2])


async def _profiled(call: Call, seconds: float, in_flight: int, file: str) -> Measurement:
    with cProfile.Profile() as profile:
        measurement = await _load(call, seconds, in_flight)
    profile.dump_stats(file)
    return measurement


async def _load(call: Call, seconds: float, in_flight: int) -> Measurement:
    latencies: list[float] = []
    cpu, start = time.process_time(), time.perf_counter()
    end = start + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(_one_after_another(call, end, latencies))
    took = time.perf_counter() - start
    latencies.sort()
    return Measurement(
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

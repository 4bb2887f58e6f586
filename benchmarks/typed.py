"""Measures what types cost: a call with a dataclass, compared with a call with the same dict.

    python benchmarks/typed.py [--rounds N] [--seconds S] [--in-flight N] [--url URL]

Both kinds take turns in one client process and one worker process, and the turns of one round are compared, because the
speed of a machine drifts by more than the difference. Trust the ratios of CPU time: they are medians over the rounds.
The exit status is 0 if a typed call costs at most 10 % more, else 1.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import click
import load
import msgspec
import typed_worker
from process import Process
from rpc import broker, start

from crew import Client, UnknownTask

WORKER_TIMEOUT = 20.0  # seconds until the worker must serve
WARM_UP = 0.5  # seconds
MOST = 1.10  # typed/untyped

IMAGE = typed_worker.Image(**load.PAYLOAD)  # type: ignore[arg-type]  # its members


class Turn(msgspec.Struct):
    """Calls per second, and CPU seconds per call."""

    rate: float
    client: float
    worker: float

    @property
    def cpu(self) -> float:
        """CPU seconds per call of both."""
        return self.client + self.worker


@click.command(help="Compare the CPU time of a call with a dataclass and of one with a dict.")
@click.option("--rounds", default=15, show_default=True, help="Turns of each kind.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of a turn.")
@click.option("--in-flight", default=64, show_default=True, help="Calls in flight.")
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
def main(rounds: int, seconds: float, in_flight: int, url: str | None) -> None:
    """Measure, and print the medians."""
    with broker(url) as found, contextlib.ExitStack() as stack:
        flags = ["--processes", "1", "--logging", "warning"]
        worker = start(stack, Process("typed_worker.py", *flags, url=found))
        turns = asyncio.run(measure(found, worker, rounds, seconds, in_flight))
    sys.exit(0 if report(turns) else 1)


async def measure(url: str, worker: Process, rounds: int, seconds: float, in_flight: int) -> list[tuple[Turn, Turn]]:
    """The turns of each round: without and with types."""
    async with Client(url) as client:
        typed = client.task(typed_worker.typed)
        kinds: list[Callable[[], Awaitable[object]]] = [
            lambda: client.call("benchmark.untyped", load.PAYLOAD),
            lambda: typed(IMAGE),
        ]
        await served(kinds[1])
        for kind in kinds:
            await turn(kind, worker, WARM_UP, in_flight)
        found = []
        for number in range(rounds):
            order = kinds if number % 2 == 0 else kinds[::-1]
            both = [await turn(kind, worker, seconds, in_flight) for kind in order]
            found.append((both[0], both[1]) if number % 2 == 0 else (both[1], both[0]))
        return found


async def turn(call: Callable[[], Awaitable[object]], worker: Process, seconds: float, in_flight: int) -> Turn:
    """Keep `in_flight` calls in flight for some seconds."""

    async def one_after_another() -> int:
        calls = 0
        while time.perf_counter() < end:
            await call()
            calls += 1
        return calls

    cpu, of_worker, begin = time.process_time(), worker.cpu(), time.perf_counter()
    end = begin + seconds
    calls = sum(await asyncio.gather(*(one_after_another() for _ in range(in_flight))))
    took = time.perf_counter() - begin
    return Turn(calls / took, (time.process_time() - cpu) / calls, (worker.cpu() - of_worker) / calls)


async def served(call: Callable[[], Awaitable[object]]) -> None:
    """Wait until the worker serves."""
    async with asyncio.timeout(WORKER_TIMEOUT):
        while True:
            try:
                await call()
                return
            except UnknownTask:  # polled, as the worker is another process
                await asyncio.sleep(0.1)


def report(turns: list[tuple[Turn, Turn]]) -> bool:
    """Print a table; whether the goal is met."""
    print("| figure | untyped | typed | typed/untyped |", "| --- | --- | --- | --- |", sep="\n")
    for name, unit in [("rate", 1.0), ("client", 1e6), ("worker", 1e6), ("cpu", 1e6)]:
        pairs = [(getattr(untyped, name) * unit, getattr(typed, name) * unit) for untyped, typed in turns]
        untyped, typed = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(typed / untyped for untyped, typed in pairs)
        label = "calls per second" if name == "rate" else f"{name}, CPU us per call"
        print(f"| {label} | {untyped:.0f} | {typed:.0f} | {ratio:.3f} |")
    print(f"goal: at most {MOST:.2f} of the CPU time: {'met' if ratio <= MOST else 'missed'}", flush=True)
    return bool(ratio <= MOST)


if __name__ == "__main__":
    main()

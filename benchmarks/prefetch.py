"""Measures a worker's prefetch: throughput, and how long an urgent call waits. Prints a table in Markdown.

    python benchmarks/prefetch.py [--rounds N] [--seconds S] [--in-flight N] [--prefetch N] [--url URL]

There is one worker with one process for each prefetch: the adaptive one, which is the default, and fixed ones. They
take turns. In each turn many calls of normal priority are in flight, so that their queue is never empty. A few urgent
calls are made among them. An urgent call is late by as many places as normal calls begin between its publishing and its
own start.
"""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Sequence
from typing import Final

import click
import msgspec
from echo_client import is_served
from process import Process
from rpc import broker

from crew import Client

SLEEPS: Final = (0.0001, 0.001, 0.01, 0.1)  # seconds of one task
ADAPTIVE: Final = 0  # the value of --prefetch that stands for the measured run time
NORMAL, URGENT = 100, 255  # priorities
EVERY: Final = 0.2  # seconds between two urgent calls
BEFORE: Final = 0.5  # seconds of a turn without urgent calls: an adaptive prefetch has then settled
WORKER_TIMEOUT: Final = 20.0  # seconds until the workers must serve
EXPIRATION: Final = 60.0  # seconds of one call


class Turn(msgspec.Struct):
    """One worker in one turn: executions a second; by how many places and seconds each urgent call was late."""

    rate: float
    places: list[int]
    waits: list[float]


@click.command(help="Measure throughput and the wait of urgent calls with adaptive and fixed prefetch; print a table.")
@click.option("--rounds", default=3, show_default=True, help="Turns of each worker with each task.")
@click.option("--seconds", default=2.5, show_default=True, help="Length of one turn.")
@click.option("--in-flight", default=200, show_default=True, help="Calls of normal priority in flight.")
@click.option("--prefetch", "fixed", multiple=True, type=int, default=(1, 8, 64), show_default=True)
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
def main(rounds: int, seconds: float, in_flight: int, fixed: tuple[int, ...], url: str | None) -> None:
    """Compare the adaptive prefetch with fixed ones."""
    with broker(url) as found, contextlib.ExitStack() as stack:
        for prefetch in (ADAPTIVE, *fixed):
            os.environ["CREW_BENCHMARK_PREFIX"] = str(prefetch)
            worker = Process(
                "prefetch_worker.py", "--processes", "1", "--prefetch", str(prefetch), "--logging", "warning", url=found
            )
            stack.callback(worker.stop)
        asyncio.run(_measure(found, (ADAPTIVE, *fixed), rounds, seconds=seconds, in_flight=in_flight))


async def _measure(url: str, prefetches: Sequence[int], rounds: int, *, seconds: float, in_flight: int) -> None:
    names = ["adaptive" if prefetch == ADAPTIVE else str(prefetch) for prefetch in prefetches]
    heads = (f"{what}: {name}" for what in ("calls/s", "places late, median (most)", "ms late") for name in names)
    print("| task, ms | " + " | ".join(heads) + " |\n|" + " --- |" * (3 * len(names) + 1), flush=True)
    async with Client(url, name="benchmark") as client:
        async with asyncio.timeout(WORKER_TIMEOUT):
            for prefetch in prefetches:
                while not await is_served(client, _task(prefetch), 0.0, WORKER_TIMEOUT):  # polled: another process
                    await asyncio.sleep(0.1)
        for sleep in SLEEPS:
            turns: dict[int, list[Turn]] = {prefetch: [] for prefetch in prefetches}
            for number in range(rounds):
                for prefetch in prefetches if number % 2 == 0 else prefetches[::-1]:
                    turns[prefetch].append(await one_turn(client, _task(prefetch), sleep, seconds, in_flight))
            print(row(sleep, list(turns.values())), flush=True)


def row(sleep: float, turns: Sequence[Sequence[Turn]]) -> str:
    """The line of the table for tasks of `sleep` seconds: the turns of each worker."""
    places = [[place for turn in of_one for place in turn.places] for of_one in turns]
    waits = [[wait for turn in of_one for wait in turn.waits] for of_one in turns]
    cells = [
        f"{sleep * 1000:g}",
        *(f"{statistics.median(turn.rate for turn in of_one):,.0f}" for of_one in turns),
        # In short turns no urgent call may have started.
        *(f"{statistics.median(late):g} ({max(late)})" if late else "-" for late in places),
        *(f"{statistics.median(late) * 1000:.1f}" if late else "-" for late in waits),
    ]
    return "| " + " | ".join(cells) + " |"


async def one_turn(client: Client, task: str, sleep: float, seconds: float, in_flight: int) -> Turn:
    """Keep `in_flight` normal calls in flight for `seconds`, and make urgent ones among them."""
    starts: list[float] = []
    urgent: list[tuple[float, float]] = []  # published and started, in epoch seconds
    begun = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(_call_on_and_on(client, task, sleep, starts))
            group.create_task(_call_urgently(client, task, sleep, urgent))
    rate = len(starts) / (time.perf_counter() - begun)
    await client.call(task, 0.0, expiration=EXPIRATION)  # the canceled calls have left the worker
    places = [sum(published < one < started for one in starts) for published, started in urgent]
    return Turn(rate, places, [started - published for published, started in urgent])


async def _call_on_and_on(client: Client, task: str, sleep: float, starts: list[float]) -> None:
    while True:
        starts.append(await client.call(task, sleep, priority=NORMAL, expiration=EXPIRATION))


async def _call_urgently(client: Client, task: str, sleep: float, urgent: list[tuple[float, float]]) -> None:
    await asyncio.sleep(BEFORE)
    while True:
        published = time.time()
        started = await client.call(task, sleep, priority=URGENT, expiration=EXPIRATION)
        urgent.append((published, started))
        await asyncio.sleep(EVERY)


def _task(prefetch: int) -> str:
    return f"benchmark.sleep.{prefetch}"


if __name__ == "__main__":
    main()

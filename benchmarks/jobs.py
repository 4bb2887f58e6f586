"""Measures the cost of a job: submit it, run it, store its result, and send that to the waiting clients.

    python benchmarks/jobs.py [--rounds N] [--seconds S] [--in-flight N] [--url URL] [--database URL] [--profile FILE]

There are two ways to submit jobs: `client.submit` in this process, and HTTP to a `crew gateway` process. Worker and
broker have their own processes. The two ways take turns in every round. A turn has two parts. First, jobs of an empty
task are submitted and run at full speed. Then, one after another, jobs that return the time of their end have 1, 10 or
100 waiting clients. The exit status is 0 if the goals are met, else 1. On a shared machine, trust the CPU times and the
ratios rather than the rates.
"""

import asyncio
import contextlib
import cProfile
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import click
from jobs_report import Turn, report
from load import PAYLOAD
from process import Process
from rpc import broker
from ways import ACTIVE, FAILED, InProcess, OverHttp, Way

EMPTY: Final = "benchmark.empty"
SOON: Final = "benchmark.soon"
WAITERS: Final = (1, 10, 100)
WAITED_FOR: Final = 4  # jobs per turn, for each number of waiting clients
DELAY: Final = 0.3  # seconds that such a job runs: enough time for a hundred requests to arrive
POLL: Final = 0.05  # seconds, while the last jobs of a turn end


@click.command(help="Measure jobs per second, and the delay of waiting clients; print a table and the goals.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Length of a turn's first part.")
@click.option("--in-flight", default=64, show_default=True, help="Submits at the same time in the first part.")
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
@click.option("--database", help="URL of the job store; default: a new SQLite file in the current folder.")
@click.option("--profile", metavar="FILE", help="Write a cProfile of this process, which slows it down.")
def main(
    rounds: int, url: str | None, database: str | None, profile: str | None, seconds: float, in_flight: int
) -> None:
    """Measure both ways and print the report."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the children are stopped
    with broker(url) as found, contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="."))  # /tmp may be memory
        worker = Process("jobs_worker.py", "--processes", "1", "--logging", "warning", url=found)
        stack.callback(worker.stop)
        ways = [way(found, database or f"sqlite:///{folder}/{way.__name__}.db") for way in (InProcess, OverHttp)]
        turns = _profiled(profile, measure(ways, rounds, seconds=seconds, in_flight=in_flight))
    goals = report(*turns)
    print(*goals, sep="\n", flush=True)
    sys.exit(0 if all(goal.is_met for goal in goals) else 1)


async def measure(ways: Sequence[Way], rounds: int, *, seconds: float, in_flight: int) -> list[list[Turn]]:
    """All turns of each way, except the first, which is for warming up."""
    turns: list[list[Turn]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, of_way in zip(ways, turns, strict=True):
            async with way:
                await way.until_served(EMPTY) if isinstance(way, InProcess) else None
                of_way.append(await one_turn(way, seconds, in_flight))
    return [of_way[1:] for of_way in turns]


async def one_turn(way: Way, seconds: float, in_flight: int) -> Turn:
    """Measure as many jobs as possible, then jobs with waiting clients."""
    submits: list[float] = []
    await way.response(await way.submit(EMPTY))  # the first job waits for connections
    cpu, start = way.cpu(), time.perf_counter()
    await _submit(way, in_flight, start + seconds, submits)
    await _until_all_ended(way)
    took, cpu = time.perf_counter() - start, way.cpu() - cpu
    alone: list[float] = []
    await _submit(way, 1, time.perf_counter() + seconds / 3, alone)
    return Turn(
        rate=len(submits) / took,
        cpu=cpu / len(submits),
        submits=submits,
        alone=alone,
        wake_ups={waiters: await _wake_ups(way, waiters) for waiters in WAITERS},
    )


async def _submit(way: Way, in_flight: int, end: float, took: list[float]) -> None:
    async def one_after_another() -> None:
        while (before := time.perf_counter()) < end:
            await way.submit(EMPTY, PAYLOAD)
            took.append(time.perf_counter() - before)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_after_another())


async def _wake_ups(way: Way, waiters: int) -> list[float]:
    async def wait(id: str) -> float:
        ended = await way.response(id)
        return time.time() - float(ended)

    late: list[float] = []
    for _ in range(WAITED_FOR):
        id = await way.submit(SOON, DELAY)
        late += await asyncio.gather(*(wait(id) for _ in range(waiters)))
    return late


async def _until_all_ended(way: Way) -> None:
    while await way.has_any(ACTIVE):
        await asyncio.sleep(POLL)
    if await way.has_any(FAILED):
        raise click.ClickException("not all jobs succeeded")


def _profiled(file: str | None, measurement: Coroutine[Any, Any, list[list[Turn]]]) -> list[list[Turn]]:
    if file is None:
        return asyncio.run(measurement)
    with cProfile.Profile() as profile:
        turns = asyncio.run(measurement)
    profile.dump_stats(file)
    return turns


if __name__ == "__main__":
    main()

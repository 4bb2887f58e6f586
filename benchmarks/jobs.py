"""What a job costs: submitted, run by a worker, settled in the store, and told to who waits for it.

    python benchmarks/jobs.py [--rounds N] [--seconds S] [--in-flight N] [--waiters N] [--url URL] [--database URL]
                              [--profile FILE]

This process is the gateway; the worker has another, the broker its own. Each round has two parts: jobs of an empty task
are submitted and run as fast as they go; then some waiters are blocked by one job each, one job after another, and the
job says at which instant it ended. Ends with 0 where the goals are met, else with 1. On a machine that others use,
trust the CPU time rather than the rate.
"""

import asyncio
import contextlib
import cProfile
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
import msgspec
from load import PAYLOAD
from process import Process
from report import Goal
from rpc import broker

from crew import Client, UnknownTask
from crew.jobs import JobStatus, JobStore

EMPTY: Final = "benchmark.empty"
MOMENT: Final = "benchmark.moment"
WORKER_TIMEOUT: Final = 20.0  # seconds for the worker to come up
LOOK_EVERY: Final = 0.05  # seconds, while the last jobs of a round end
ACTIVE: Final = (JobStatus.QUEUED, JobStatus.STARTED)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one round came to.

    Attributes:
        rate: jobs a second, from the first submit to the last job's end.
        cpu: seconds of CPU of this process a job.
        submits: seconds that each submit took, as fast as they go.
        submits_alone, wake_ups: seconds that each submit took, and each wake-up after the end of a job, with few jobs.
    """

    rate: float
    cpu: float
    submits: list[float]
    submits_alone: list[float]
    wake_ups: list[float]


class Load(msgspec.Struct, frozen=True):
    """What a round has to do.

    Attributes:
        seconds: of either part.
        in_flight: submits at a time.
        waiters: jobs at a time that somebody waits for.
    """

    seconds: float
    in_flight: int
    waiters: int


@click.command(help="Jobs a second, and how late a waiter is woken; prints a table and whether the goals are met.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Length of each of the two parts of a round.")
@click.option("--in-flight", default=64, show_default=True, help="Submits at a time when throughput is measured.")
@click.option("--waiters", default=10, show_default=True, help="Blocked waiters when their wake-up is measured.")
@click.option("--url", help="AMQP URL; default: as crew finds it, else a private node.")
@click.option("--database", help="URL of the job store; default: a new SQLite file, on the disk of the current folder.")
@click.option("--profile", metavar="FILE", help="Write there what cProfile finds; it slows this process down.")
def main(
    rounds: int,
    url: str | None,
    database: str | None,
    profile: str | None,
    seconds: float,
    in_flight: int,
    waiters: int,
) -> None:
    """Measure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no child is left behind
    load = Load(seconds, in_flight, waiters)
    with broker(url) as found, contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="."))  # /tmp may be memory
        worker = Process("jobs_worker.py", "--processes", "1", "--logging", "warning", url=found)
        stack.callback(worker.stop)
        store = database or f"sqlite:///{folder}/jobs.db"
        measured = _profiled(profile, measure(found, store, rounds, load))
    goals = report(measured)
    sys.exit(0 if all(goal.is_met for goal in goals) else 1)


async def measure(url: str, database: str, rounds: int, load: Load) -> list[Round]:
    """All rounds, after the worker has come up, and a short one to warm up."""
    async with Client(url, store=JobStore(database)) as client:
        async with asyncio.timeout(WORKER_TIMEOUT):
            while not await _is_served(client):  # another process: nothing here is told of it
                await asyncio.sleep(0.1)
        await one_round(client, msgspec.structs.replace(load, seconds=min(1.0, load.seconds)))
        return [await one_round(client, load) for _ in range(rounds)]


async def one_round(client: Client, load: Load) -> Round:
    """As many jobs as it can, then some that somebody waits for."""
    submits: list[float] = []

    async def submit() -> None:
        before = time.perf_counter()
        await client.submit(EMPTY, PAYLOAD)
        submits.append(time.perf_counter() - before)

    cpu, start = time.process_time(), time.perf_counter()
    await _repeat(submit, load.in_flight, load.seconds)
    await _until_all_ended(client)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    alone, wake_ups = await _with_waiters(client, load)
    return Round(
        rate=len(submits) / took, cpu=cpu / len(submits), submits=submits, submits_alone=alone, wake_ups=wake_ups
    )


async def _with_waiters(client: Client, load: Load) -> tuple[list[float], list[float]]:
    submits: list[float] = []
    wake_ups: list[float] = []

    async def submit_and_wait() -> None:
        before = time.perf_counter()
        handle = await client.submit(MOMENT)
        submits.append(time.perf_counter() - before)
        ended = await handle.result()
        wake_ups.append(time.time() - ended)

    await _repeat(submit_and_wait, load.waiters, load.seconds)
    return submits, wake_ups


async def _repeat(step: Callable[[], Coroutine[Any, Any, None]], times: int, seconds: float) -> None:
    """`times` of them at once, each one after another."""
    end = time.perf_counter() + seconds

    async def one_after_another() -> None:
        while time.perf_counter() < end:
            await step()

    async with asyncio.TaskGroup() as group:
        for _ in range(times):
            group.create_task(one_after_another())


async def _until_all_ended(client: Client) -> None:
    while True:
        counts = await client.jobs.store.counts()
        if not any(counts.get(status) for status in ACTIVE):
            break
        await asyncio.sleep(LOOK_EVERY)
    unlucky = {status.value: count for status, count in counts.items() if status is not JobStatus.SUCCESS}
    if unlucky:
        raise click.ClickException(f"not all jobs succeeded: {unlucky}")


async def _is_served(client: Client) -> bool:
    try:
        await client.call(EMPTY, expiration=WORKER_TIMEOUT)
    except UnknownTask:
        return False
    return True


def report(rounds: list[Round]) -> list[Goal]:
    """Print the table; return the goals."""
    rate = statistics.median(one.rate for one in rounds)
    submits, alone, wake_ups = (
        sorted(value for one in rounds for value in getattr(one, name))
        for name in ("submits", "submits_alone", "wake_ups")
    )
    print(f"jobs submitted and finished a second   {rate:8.0f}")
    print(f"  CPU of the gateway, us a job         {statistics.median(one.cpu for one in rounds) * 1e6:8.0f}")
    print(f"{'':36}{'p50':>11}{'p99':>8}")
    for name, values in {"submit, ms": submits, "  with few jobs": alone, "wake-up of a waiter, ms": wake_ups}.items():
        print(f"{name:36}{_ms(values, 0.50):11.1f}{_ms(values, 0.99):8.1f}")
    goals = [
        Goal("jobs a second", rate, at_least=600),
        Goal("p50 of the wake-up after a job's end, ms", _ms(wake_ups, 0.50), at_most=50),
    ]
    print(*goals, sep="\n", flush=True)
    return goals


def _ms(values: list[float], share: float) -> float:
    return values[int(len(values) * share)] * 1e3


def _profiled(file: str | None, errand: Coroutine[Any, Any, list[Round]]) -> list[Round]:
    if file is None:
        return asyncio.run(errand)
    with cProfile.Profile() as profile:
        rounds = asyncio.run(errand)
    profile.dump_stats(file)
    return rounds


if __name__ == "__main__":
    main()

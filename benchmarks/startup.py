"""Measures how long crew takes to start, and the memory of an idle worker: a table in Markdown.

    python benchmarks/startup.py [--rounds N] [--tasks N ...] [--processes N] [--url URL]

Every measurement starts new processes. "First start" means that no queue of the tasks exists, "second start" that all
exist. A worker of many tasks has started when each of its processes serves and a call of its last task has returned.
Beside it stands the time that the broker takes for the same queues, bindings and consumers when bare pika requests them
over many channels at once, for one process. The exit status is 0 if the medians meet the goals, else 1; the goals are
for two idle cores.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from process import children_of, memory_of
from rpc import broker
from startup_floor import delete_queues, floor

from crew.client.blocking import Client

FOLDER: Final = Path(__file__).parent
IDLE: Final = 3.0  # seconds after the first call before the memory is read
START_TIMEOUT: Final = 120.0  # seconds
_TIMED_IMPORT: Final = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"

GOALS: Final = {
    "import crew.worker, s": 0.1,
    "crew --help, s": 0.12,
    "one task: first call served, s": 0.5,
    "one task: PSS of supervisor and process, MiB": 26,
    "1000 tasks, 2 processes: first start, s": 8,
    "1000 tasks, 2 processes: second start, s": 3,
}

Figures = dict[str, list[float]]


@click.command(help="Measure imports, the command line, and the start of workers; print a table.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--tasks", multiple=True, type=int, default=(100, 1000), show_default=True, help="Tasks of a worker.")
@click.option("--processes", default=2, show_default=True, help="Processes of a worker with many tasks.")
@click.option("--url", help="AMQP URL; default: crew's default, else a private node.")
def main(rounds: int, tasks: tuple[int, ...], processes: int, url: str | None) -> None:
    """Measure everything in every round, and print the medians."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the children are stopped
    figures: Figures = defaultdict(list)
    with broker(url) as found, Client(found) as client:
        for _ in range(rounds):
            measure_programs(figures)
            measure_one_task(figures, client, found)
            for count in tasks:
                measure_many(figures, client, found, count, processes)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print("| | median | least | goal |\n| --- | --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {min(figures[name]):.2f} | {GOALS.get(name, '')} |")
    sys.exit(0 if all(medians[name] <= goal for name, goal in GOALS.items() if name in medians) else 1)


def measure_programs(figures: Figures) -> None:
    """Time the interpreter, the imports and `crew --help`."""
    figures["python -c pass, s"].append(seconds_of(lambda: run_python("-c", "pass")))
    for module in ("crew", "crew.worker", "crew.client.client"):
        figures[f"import {module}, s"].append(float(run_python("-c", _TIMED_IMPORT.format(module))))
    figures["crew --help, s"].append(seconds_of(lambda: run_python("-m", "crew", "--help")))


def measure_one_task(figures: Figures, client: Client, url: str) -> None:
    """Time the first call of a worker with one task, from its command on, and read its memory."""
    prefix = new_prefix()
    with worker(url, prefix, tasks=1, processes=1) as (process, _):
        wait_serving(process, 1)  # so that the queue exists, and the call of the second start can wait in it
    with worker(url, prefix, tasks=1, processes=1) as (process, elapsed):
        client.call(f"{prefix}.0", 1, expiration=START_TIMEOUT).result()
        figures["one task: first call served, s"].append(elapsed())
        time.sleep(IDLE)
        pids = [process.pid, *children_of(process.pid)]
        figures["one task: PSS of supervisor and process, MiB"].append(sum(memory_of(pid).pss for pid in pids))
    delete_queues(url, [f"crew.tasks.{prefix}.0"])


def measure_many(figures: Figures, client: Client, url: str, count: int, processes: int) -> None:
    """Time the first and the second start of a worker with `count` tasks, and what the broker takes for it."""
    prefix = new_prefix()
    row = f"{count} tasks, {processes} processes: "
    for start in ("first", "second"):
        with worker(url, prefix, tasks=count, processes=processes) as (process, elapsed):
            wait_serving(process, processes)
            client.call(f"{prefix}.{count - 1}", 1, expiration=START_TIMEOUT).result()
            figures[f"{row}{start} start, s"].append(elapsed())
    delete_queues(url, [f"crew.tasks.{prefix}.{number}" for number in range(count)])
    for step, seconds in floor(url, count).items():
        figures[f"{row}broker's time for {step}, bare pika, s"].append(seconds)


@contextmanager
def worker(
    url: str, prefix: str, *, tasks: int, processes: int
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], float]]]:
    """A running worker, and a function that returns the seconds since its command."""
    environment = {"CREW_AMQP_URL": url, "CREW_BENCHMARK_PREFIX": prefix, "CREW_BENCHMARK_TASKS": str(tasks)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "startup_worker.py"), "--processes", str(processes)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, lambda: time.perf_counter() - started
    finally:
        process.terminate()
        process.communicate()


def wait_serving(process: subprocess.Popen[str], processes: int) -> None:
    """Wait until the log says that each of the processes serves."""
    lines = iter(process.stderr or ())
    for _ in range(processes):
        if not any("serving" in line for line in lines):
            raise RuntimeError("the worker ended before it served")


def run_python(*arguments: str) -> str:
    """The output of a new interpreter."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def seconds_of(step: Callable[[], object]) -> float:
    """How long `step` takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def new_prefix() -> str:
    """A new prefix for the names of tasks."""
    return f"startup.{uuid.uuid4().hex[:8]}"


if __name__ == "__main__":
    main()
